"""A page on which a model is tried: pictures and paintings in, the generated picture beside."""
