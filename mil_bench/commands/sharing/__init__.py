"""Commands that exchange results with others."""
