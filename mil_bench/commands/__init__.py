"""The commands, one file per verb or noun; nothing heavy is imported before it is used."""
