"""Texts that the tests' tokenizers are trained on."""

from seq2seq_kit.tokens.tokenizer import Tokenizer

TEXTS = [
    "The cat sat on the mat, and the dog sat beside the cat.",
    "A dog ran after the cat; the cat ran up a tree!",
    "Der Hund lief über die Straße, die Katze schlief.",
    "Où est le café? L'été, les élèves étaient là-bas.",
    "春天到了，万物复苏。春天的风吹过田野。",
    "他说：“你好！”然后走了。",
    "def main(argv):\treturn {'a': [1, 2], 'b': 3.14}",
    "12,345.67 € — naïve coöperation…",
] * 3
TYPES = ["unigram", "bpe", "word", "char"]
MODES = [(kind, False) for kind in TYPES] + [(kind, True) for kind in TYPES if kind != "word"]


def train(**options: object) -> Tokenizer:
    return Tokenizer.train(TEXTS, **{"vocab_size": 420, **options})  # type: ignore[arg-type]
