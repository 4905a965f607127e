"""A workdir on disk: its config and its checkpoints."""
