"""Text files to aligned lines: reading, normalization and checks. Imports no TensorFlow."""
