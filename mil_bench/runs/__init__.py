"""What a run gave, made from stored results: its tables, and runs listed, compared and ranked."""
