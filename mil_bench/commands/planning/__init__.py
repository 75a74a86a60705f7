"""The command that says what a comparison could show before it is made."""
