"""What a classifier and its data are like: explanations, the audit of data, labels that may be wrong."""
