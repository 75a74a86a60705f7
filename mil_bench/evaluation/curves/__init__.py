"""ROC and precision-recall curves, with bands over patients."""
