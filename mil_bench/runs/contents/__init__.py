"""What a report says of a run besides its results: key facts, what was trained, the data."""
