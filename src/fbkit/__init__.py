"""fbkit: train one body for everybody, personalize a small head on each device."""

__version__ = "0.1.0"
