"""From data to a saved folder: fit and evaluate, each one page."""
