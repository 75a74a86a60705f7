"""The methods that mil-bench compares against: one file each, none imports another."""

CORE = ("abmil", "clam-mb", "clam-sb", "dsmil", "hmil", "max-pool", "mean-pool", "transmil")
"""HMIL and the four methods that tables have compared most, with pooling."""
