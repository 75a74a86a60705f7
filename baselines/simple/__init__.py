"""Baselines that a method should beat: pooling, probes of the mean, references."""
