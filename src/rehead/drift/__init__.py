"""Whether a classifier still gets inputs like those that it was tested on, and how far new ones are from them."""
