"""Speed of mil-bench itself, as ratios within one run on one machine."""
