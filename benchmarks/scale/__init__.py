"""``fbkit bench scale``: memory and time of a round, from a hundred clients to a million."""
