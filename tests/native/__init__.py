"""The native runner."""
