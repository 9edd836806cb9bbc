"""Images: what their numbers mean, files to [-1, 1] and back, sheets and charts for the eye."""
