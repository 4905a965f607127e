"""Metrics of predictions: pure NumPy, no model."""
