"""The layers that the networks are made of, where Keras' own are slower, or draw noise from hidden state."""
