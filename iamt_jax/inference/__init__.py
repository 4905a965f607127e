"""A trained network for its users."""
