"""Which way of fitting the head gives the better one, on clients that took no part in training."""
