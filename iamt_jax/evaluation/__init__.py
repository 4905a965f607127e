"""Measures of a prediction: numbers in, numbers out."""
