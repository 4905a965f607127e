"""Attention pooling: the masked features of all heads, pooled without storing the masks."""
