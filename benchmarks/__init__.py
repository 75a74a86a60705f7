"""Dataset cards: facts about each dataset, and no logic."""
