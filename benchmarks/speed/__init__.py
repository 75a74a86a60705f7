"""How fast mil-bench itself is, as ratios within one run on one machine."""
