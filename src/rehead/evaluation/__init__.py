"""Metrics with intervals, baselines on the same split, decisions, report."""
