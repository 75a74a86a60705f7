"""What a method reads: the store of packed features, ragged batches, and the feed of batches."""
