"""Looks through features for what would spoil a benchmark."""
