"""Whether a classifier still sees what it was tested on: what it was tested on, and how far new inputs are from it."""
