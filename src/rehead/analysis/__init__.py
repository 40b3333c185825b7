"""Explanations of a classifier, the audit of data, labels that may be wrong."""
