"""Explanations of a logit: contributions that sum to it, their masks, and maps of pixels."""
