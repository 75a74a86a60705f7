"""Figures; only these modules import matplotlib. Each function turns data into a figure."""
