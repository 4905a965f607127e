"""The network, part by part; it knows no labels."""
