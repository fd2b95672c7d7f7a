"""``fbkit bench`` and ``fbkit demo``, one file a command."""
