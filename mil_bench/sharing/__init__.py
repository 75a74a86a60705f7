"""What leaves a folder of results and comes into another: bundles of results, trained models."""
