"""Corpora encoded with a tokenizer whose ids are the characters' code points."""

from pathlib import Path

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.data.encode import LengthLimits
from seq2seq_kit.data.encoded import EncodedData
from seq2seq_kit.data.entries import encode_corpora
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.digests import FileDigests


class Letters:
    """Stands in for a Tokenizer: a character is its code point, and the texts encoded are kept."""

    def __init__(self, fingerprint: str = "letters", vocab_size: int = 256) -> None:
        self.fingerprint = fingerprint
        self.vocab_size = vocab_size
        self.encoded: list[str] = []

    def encode(self, texts: list[str]) -> list[list[int]]:
        self.encoded += texts
        return [[ord(character) for character in text] for text in texts]


def write_tsv(path: Path, *rows: tuple[str, str]) -> CorpusConfig:
    path.write_text("".join(f"{source}\t{target}\n" for source, target in rows), encoding="utf-8")
    return CorpusConfig(tsv=path)


def encode_letters(
    *corpora: CorpusConfig,
    tokenizer: Letters | None = None,
    max_source_length: int = 50,
    max_target_length: int = 50,
    long_lines: str = "skip",
) -> EncodedData:
    tokenizer = tokenizer or Letters()
    limits = LengthLimits(max_source_length, max_target_length, long_lines)
    return encode_corpora(corpora, Tokenizers(tokenizer, tokenizer), limits, FileDigests())


def texts(data: EncodedData) -> list[tuple[str, str]]:
    source, target = data.source, data.target
    return [
        ("".join(map(chr, source[row])) if source else "", "".join(map(chr, target[row])))
        for row in range(len(data))
    ]
