"""Split files: the formats of this field's tools, import, export and audit."""
