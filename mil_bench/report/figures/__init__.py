"""Pictures; the only place that knows matplotlib. Every function takes data and gives a figure."""
