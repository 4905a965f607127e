"""Measurements of a trained network: metrics, tone curves, masks, faithfulness of maps."""
