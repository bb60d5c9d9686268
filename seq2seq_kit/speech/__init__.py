"""Text to speech: words from the text, phones from a dictionary and a model, sound from espeak-ng.

Imports TensorFlow when a word is in no dictionary, and espeak-ng when a `Speaker` is made.
"""
