"""Getting a bundle onto a device, and running commands there: over ssh or adb, by their own clients."""
