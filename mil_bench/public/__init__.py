"""Public features: recipes, the hub that they come from, and their way into a bag store."""
