"""What a report shows first: the forest plot; what was trained, on which data, and what is hard."""
