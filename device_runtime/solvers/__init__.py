"""Ways to fit the head to cached features."""
