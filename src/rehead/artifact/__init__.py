"""The saved classifier: its manifest, writing, verifying and loading it, and predicting with it."""
