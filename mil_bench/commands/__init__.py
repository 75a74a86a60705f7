"""What the commands do and how they are spelled, one file a family. Nothing heavy is imported before it is used."""
