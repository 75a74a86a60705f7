"""What a method eats: the store of packed features, ragged batches, and the feed that reads them in order."""
