"""Split files of other tools: read, audited, written."""
