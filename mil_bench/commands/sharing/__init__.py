"""Commands that exchange results and models with others."""
