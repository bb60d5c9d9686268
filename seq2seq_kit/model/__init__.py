"""The network: Keras layers, one idea a file, and the two models that they make up."""
