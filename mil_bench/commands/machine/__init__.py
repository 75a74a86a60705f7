"""What this machine can do, and what would go wrong on it."""
