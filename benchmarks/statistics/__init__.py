"""How reliable are verdicts and intervals? Simulations with known truth; speed of the bootstrap."""
