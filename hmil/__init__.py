"""HMIL: hierarchical multi-instance learning for fine-grained whole-slide-image classification."""
