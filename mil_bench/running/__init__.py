"""Plans, workers, the result store, tracking, and the runner that joins them."""
