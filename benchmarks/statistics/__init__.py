"""Do the verdicts keep what they promise? Simulations whose truth is known, and the speed of the bootstrap."""
