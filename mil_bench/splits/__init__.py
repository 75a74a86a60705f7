"""What a split is: folds, the protocols that make them, and lists of other tools."""
