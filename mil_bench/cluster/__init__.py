"""Runs that other machines train: frozen tasks, workers, Slurm, and the process that watches."""
