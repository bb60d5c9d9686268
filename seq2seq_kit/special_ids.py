"""The ids of the four special tokens, the same in every vocabulary.

`decoding`, which knows no vocabulary, takes them as arguments instead.
"""

PAD_ID = 0
"""Padding: fills the end of the shorter rows of a batch."""
UNK_ID = 1
"""The unknown token: a text's character that the vocabulary lacks."""
BOS_ID = 2
"""The beginning of a sequence: the decoder's first input."""
EOS_ID = 3
"""The end of a sequence: the decoder's last output."""
NUM_SPECIAL_IDS = 4
"""The first id of a token with text."""
