"""Pictures of single slides."""
