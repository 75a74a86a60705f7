"""Choosing settings by trials, with the same budget for every method."""
