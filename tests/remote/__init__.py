"""Deploying to devices and running commands there."""
