"""Text files to aligned lines: how they are read, normalized and checked. Imports no TensorFlow."""
