"""What a comparison can show, and what would show more."""
