"""One file that holds a trained network, and runs without this package."""
