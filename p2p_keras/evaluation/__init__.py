"""A run's checkpoints x a split -> numbers, curves, sheets."""
