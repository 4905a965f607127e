"""Noise and the degradations of ImageNet-C, with one random key an image."""
