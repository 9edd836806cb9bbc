"""The model out of the trainer: written for other programs, and opened again."""
