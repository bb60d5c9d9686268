"""From text to token ids and back, by SentencePiece. Imports no TensorFlow."""
