"""Data sets of labelled images: layouts on disk, decoding, augmentation, batches."""
