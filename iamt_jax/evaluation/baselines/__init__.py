"""The rivals of the mask transformation: what else can be done to a network after training."""
