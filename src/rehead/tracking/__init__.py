"""Trackers of experiments: what a fit reports goes to MLflow, TensorBoard or Weights & Biases."""
