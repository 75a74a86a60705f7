"""Dataset cards (facts, no logic), and commands that repeat published measurements."""
