"""Predictions, training and serving on several machines: glue between rehead, Ray and torch.distributed."""
