"""Reproducing the tables and figures of a paper."""
