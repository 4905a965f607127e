"""Metrics of logits and labels, in NumPy."""
