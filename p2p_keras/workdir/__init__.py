"""A run's folder: its settings, history and checkpoints, and the generator and the data that they describe."""
