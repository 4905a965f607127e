"""What is done to an image, its features and its masks, knowing how it was degraded."""
