"""What a dataset is: its card, its label table, its slides, and simulated stand-ins."""
