"""From files on disk to batches: hierarchies, dataset cards, splits, the bag store, readers and feeds."""
