"""Contestants of the training benchmark: ours, the authors' loops, torchmil, bare products."""
