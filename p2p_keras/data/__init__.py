"""Pairs of images: where they lie, whether they are sound, how they reach the networks."""
