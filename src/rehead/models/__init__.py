"""Pretrained models: where they come from, how they are loaded, and where they can be cut."""
