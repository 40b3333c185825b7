"""Scores tables of any length: rows are read, scored and kept in portions, and a run that was cut off goes on."""
