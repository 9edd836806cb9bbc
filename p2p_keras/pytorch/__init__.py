"""The PyTorch version's generator becomes a run."""
