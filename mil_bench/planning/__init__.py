"""What is to be trained: requests, rows, plans."""
