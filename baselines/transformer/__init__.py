"""A plain Transformer: ``model`` holds the method, ``parts`` its layers."""
