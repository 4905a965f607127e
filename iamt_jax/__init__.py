"""Intentional attention mask transformation (Kimura & Tanaka, arXiv 1905.02719) in JAX."""
