"""Commands that use the trained models of a run."""
