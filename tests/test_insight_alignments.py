"""Alignments, on attention made by hand and word by word in a plain second way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from untrained import untrained_writer

from seq2seq_kit import insight
from seq2seq_kit.cli import main
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.insight.alignments import link_words, words_of
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def aligner(deep_model: Seq2Seq) -> insight.Aligner:
    return insight.Aligner(deep_model)


def char_tokenizer(text: str, **options: Any) -> Tokenizer:
    size = len(set(text)) + 5 + 256 * options.get("byte_fallback", False)
    return Tokenizer.train([text], type="char", vocab_size=size, **options)


def test_links_of_attention_made_by_hand() -> None:
    # Tokens `ab c d` of the source are words 0, 0, 1; tokens of the target words 0, 1, 1.
    source = np.array([[1, 0], [1, 0], [0, 1]])
    target = np.array([[1, 0], [0, 1], [0, 1]])
    attention = np.array([[0.3, 0.3, 0.4], [0.1, 0.1, 0.8], [0.45, 0.45, 0.1]])
    # Word 0: 0.6 against 0.4. Word 1: 0.2 + 0.9 against 0.8 + 0.1.
    assert link_words(attention, source, target) == ((0, 0), (0, 1))
    # Word 1: 0.2 + 0.5 against 0.8 + 0.5.
    attention[2] = [0.25, 0.25, 0.5]
    assert link_words(attention, source, target) == ((0, 0), (1, 1))


def test_pharaoh_counts_words_from_zero_source_first() -> None:
    alignment = insight.Alignment(("das", "Haus"), ("the", "house", "!"), ((0, 0), (1, 1), (1, 2)))
    assert alignment.pharaoh() == "0-0 1-1 1-2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ab c, d.", ("ab", "c,", "d.")),
        ("  ab  c ", ("ab", "c")),
        ("我 ab在。c", ("我", "ab", "在", "。", "c")),
        ("カナ한국 é", ("カ", "ナ", "한국", "é")),
        ("", ()),
    ],
)
@pytest.mark.parametrize("lossless", [False, True])
def test_words_and_the_tokens_in_them(text: str, words: tuple[str, ...], lossless: bool) -> None:
    tokenizer = char_tokenizer("ab c, d. 我在。カナ한국é", lossless=lossless)
    (ids,) = tokenizer.encode([text])
    found, shares = words_of(tokenizer, [*ids, 3])
    assert found == words
    pieces = [*tokenizer.tokenize(text), "▁"]
    expected = [0.0 if piece in "▁ " else 1.0 for piece in pieces]
    np.testing.assert_array_equal(shares.sum(axis=1), expected)
    assert ["".join(np.array(pieces)[column > 0]).strip("▁") for column in shares.T] == list(words)


def test_bytes_of_a_character_belong_to_its_word() -> None:
    tokenizer = char_tokenizer("ab", byte_fallback=True)
    words, shares = words_of(tokenizer, tokenizer.encode(["a 春b"])[0])
    assert words == ("a", "春", "b")
    np.testing.assert_array_equal(shares.sum(axis=0), [1, 3, 1])


def test_unknown_characters_are_a_word() -> None:
    tokenizer = char_tokenizer("ab c", byte_fallback=False)
    words, _ = words_of(tokenizer, tokenizer.encode(["a éé c"])[0])
    assert words == ("a", "\ufffd", "c")


def test_a_token_of_two_words_is_shared() -> None:
    tokenizer = Tokenizer.train(
        ["ab 在这"], type="char", vocab_size=12, user_defined_symbols=["在这"], byte_fallback=False
    )
    words, shares = words_of(tokenizer, tokenizer.encode(["在这"])[0])
    assert words == ("在", "这")
    np.testing.assert_array_equal(shares[-1], [0.5, 0.5])


def links_by_hand(seen: insight.Trace) -> list[str]:
    """The links that a trace of tokens of one character gives, word by word."""
    words = []
    for tokens in (seen.source_tokens[:-1], seen.target_tokens[:-1]):
        starts = [place for place, token in enumerate(tokens) if token == "▁"]
        ends = [*starts[1:], len(tokens)]
        # The space before a word belongs to none.
        words.append([range(a + 1, b) for a, b in zip(starts, ends, strict=True)])
    links = []
    for number, target in enumerate(words[1]):
        sums = [sum(seen.attention[t, s] for t in target for s in source) for source in words[0]]
        links.append(f"{int(np.argmax(sums))}-{number}")
    return links


def test_alignment_is_that_of_the_attention_between_words(
    deep_model: Seq2Seq, aligner: insight.Aligner
) -> None:
    source, target = "ab b aab ba", "xy z zzy y xx"
    found = aligner(source, target)
    assert found.source_words == tuple(source.split())
    assert found.target_words == tuple(target.split())
    assert found.pharaoh().split() == links_by_hand(insight.trace(deep_model, source, target))


def test_empty_texts_have_no_links(aligner: insight.Aligner) -> None:
    assert aligner("", "x").pharaoh() == ""
    assert aligner("a", "").pharaoh() == ""
    assert aligner("").pharaoh() == ""


def test_a_language_model_aligns_nothing(tmp_path: Path) -> None:
    writer = untrained_writer(tmp_path)
    with pytest.raises(InputError, match="Only a translation model"):
        insight.Aligner(writer)


def test_command_writes_a_line_for_each_output(
    deep_model: Seq2Seq,
    aligner: insight.Aligner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hypotheses(texts: list[str], **_: Any) -> Iterator[list[Hypothesis]]:
        for text in texts:
            outputs = ("xy z", "z") if text else ("", "")
            ids = [tuple(row) for row in deep_model.tokenizer.encode(outputs)]
            yield [Hypothesis(*pair, -1.0, -1.0) for pair in zip(outputs, ids, strict=True)]

    monkeypatch.setattr(deep_model, "hypotheses", hypotheses)
    monkeypatch.setattr(Seq2Seq, "load", lambda _: deep_model)
    (tmp_path / "in").write_text("ab ba\n\nb a b\n" + "ab" * 60 + "\n", encoding="utf-8")
    words = ["generate", "run", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    words += ["--alignments", str(tmp_path / "links"), "--num-hypotheses", "2"]
    assert main([*words, "--long-lines", "truncate"]) == 0
    expected = [
        aligner(source, target).pharaoh()
        for source in ("ab ba", "b a b")
        for target in ("xy z", "z")
    ]
    links = (tmp_path / "links").read_text(encoding="utf-8").split("\n")
    assert links == [*expected[:2], "", "", *expected[2:], "0-0 0-1", "0-0", ""]
    assert len((tmp_path / "out").read_text(encoding="utf-8").splitlines()) == 8


@pytest.mark.usefixtures("backwards")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alignments", "links", "--stream"], "--alignments out"),
        (["--alignments", "-"], "must be a file beside"),
        (["--alignments", "same", "-o", "same"], "must be a file beside"),
    ],
)
def test_wrong_files_of_alignments_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "run", "--prompt", "x", *options]) == 2
    assert message in capsys.readouterr().err
