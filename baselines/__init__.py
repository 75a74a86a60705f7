"""The methods that mil-bench compares against: one file each, none imports another."""
