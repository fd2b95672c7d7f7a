"""The device's commands, one file each. They need the base install only."""
