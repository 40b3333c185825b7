"""Labelled examples: reading tables, finding duplicates, splitting. Knows nothing of models."""
