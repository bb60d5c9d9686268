"""Texts that the tests' tokenizers are trained on, and texts that they encode."""

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
LINES = [
    "",
    " ",
    "   ",
    "The cat",
    "  The  cat   sat ",
    "the cat ran on the mat and the dog ran after a tree",
    "Unseen words: zyzzyva, Quäke, ñandú",
    "春天到了，万物复苏。",
    "未见过的字：龘龖齉，全角ＡＢＣ！？　空格",
    "line\nnext\n\nthird\n",
    "\n",
    " \n \n",
    "tab\there",
    "CR\rLF\r\nend",
    "NUL\0inside",
    "\0",
    "no-break\u00a0space, thin\u2009space, \u3000ideographic",
    "separators \x0b\x0c\x1c\x1d\x85\u2028\u2029 stay",
    "e\u0301 and é, ﬁ and fi, Å and A\u030a",
    "😀👩\u200d👩\u200d👧🏽 flags 🇩🇪",
    "\u200bzero width\ufeff",
    "block \u2585 block \u2581 \u2581",
    "\u2581\x10\u2581\x11 \x12",
    "\ufffd\U0010ffff",
    "<s> </s> <pad> <unk> <0x41>",
    "⁇ \u2047",
    "العربية עברית हिन्दी ไทย 한국어",
    "a" * 3000,
    "the cat sat. " * 200,
]
SPACELESS = ["春天到了，万物复苏。春天的风吹过田野。", "他说：“你好！”然后走了。"] * 3
TYPES = ["unigram", "bpe", "word", "char"]
MODES = [(kind, False) for kind in TYPES] + [(kind, True) for kind in TYPES if kind != "word"]


def train(**options: object) -> Tokenizer:
    return Tokenizer.train(TEXTS, **{"vocab_size": 420, **options})  # type: ignore[arg-type]
