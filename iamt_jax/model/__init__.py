"""The paper (arXiv 1905.02719), in this order: tone_curve (Eq. 7, 8), extractor, heads (Eq. 1, 2,
9), network (Fig. 2), losses (Eq. 1 to 6)."""
