"""A local page for trying a trained network."""
