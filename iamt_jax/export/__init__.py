"""Export of a trained network to one file that runs without this package."""
