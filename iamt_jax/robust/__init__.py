"""Robustness to noise after training: noise estimate, denoiser and per-channel tone curves."""
