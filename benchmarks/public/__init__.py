"""Recipes for public features (TOML), which ``mil-bench data get NAME`` follows.

A file says where the features are, how they are laid out and on which terms they may be used. What
nobody has read is left out: a commit, a size or a digest that is missing here is taken from the hub
at the first call and kept from then on. ``tried`` names the month in which somebody fetched the
features from the real hub.
"""
