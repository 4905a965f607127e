"""Inference with a trained network."""
