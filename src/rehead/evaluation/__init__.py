"""What the numbers are worth: metrics with intervals, baselines on the same split, report."""
