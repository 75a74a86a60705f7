"""Trains what a plan lacks: tasks, workers, executors, and the result store."""
