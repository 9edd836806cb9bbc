"""What goes wrong with a training, recognised from its history, its evaluations, its pairs and its pictures."""
