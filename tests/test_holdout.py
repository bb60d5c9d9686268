"""Held-out validation rows: against sets of the texts, and plain loops."""

from pathlib import Path

import numpy as np
import pytest
from letters import encode_letters, texts, write_tsv

from seq2seq_kit.config import CorpusConfig
from seq2seq_kit.data.holdout import _linked, split_holdout
from seq2seq_kit.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("S2S_CACHE_DIR", str(folder))
    return folder


def pairs_with_repeats(num_rows: int) -> list[tuple[str, str]]:
    """Pairs of which a good part share a source or a target with another."""
    rng = np.random.default_rng(0)
    sources = rng.integers(num_rows, size=num_rows)
    targets = rng.integers(num_rows, size=num_rows)
    # Chains of rows over random repeats would link most of the set: keep half the rows out of it.
    sources[::2] = targets[::2] = num_rows + np.arange(0, num_rows, 2) // 4
    return [(f"s{s}", f"t{t}") for s, t in zip(sources, targets, strict=True)]


def test_holdout_shares_no_source_and_no_target_with_training(tmp_path: Path) -> None:
    rows = pairs_with_repeats(1000)
    whole = encode_letters(write_tsv(tmp_path / "a.tsv", *rows))
    train, held = split_holdout(whole, holdout=60, seed=1)
    assert sorted(texts(train) + texts(held)) == sorted(rows)
    assert len(held) == 60
    for side in (0, 1):
        assert not {row[side] for row in texts(train)} & {row[side] for row in texts(held)}


def test_holdout_keeps_sources_apart_where_targets_are_few(tmp_path: Path) -> None:
    rows = [(f"s{number // 2}", f"t{number % 3}") for number in range(400)]
    train, held = split_holdout(
        encode_letters(write_tsv(tmp_path / "a.tsv", *rows)), holdout=20, seed=1
    )
    assert len(held) == 20
    assert not {source for source, _ in texts(train)} & {source for source, _ in texts(held)}


def test_holdout_keeps_equal_lines_together(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"line {number // 2}\n" for number in range(200)))
    whole = encode_letters(CorpusConfig(lines=tmp_path / "a.txt"))
    train, held = split_holdout(whole, holdout=10, seed=1)
    assert len(held) == 10
    assert not set(texts(train)) & set(texts(held))


def test_holdout_is_a_function_of_the_seed(tmp_path: Path) -> None:
    whole = encode_letters(write_tsv(tmp_path / "a.tsv", *pairs_with_repeats(300)))
    held = [texts(split_holdout(whole, holdout=20, seed=seed)[1]) for seed in (1, 1, 2)]
    assert held[0] == held[1]
    assert held[0] != held[2]


def test_holdout_takes_at_most_a_tenth_of_all_corpora(tmp_path: Path) -> None:
    first = write_tsv(tmp_path / "a.tsv", *[(f"a{number}", f"A{number}") for number in range(150)])
    second = write_tsv(tmp_path / "b.tsv", *[(f"b{number}", f"B{number}") for number in range(50)])
    train, held = split_holdout(encode_letters(first, second), holdout=1000, seed=1)
    assert len(held) == 20
    for part in (train, held):
        first_rows, second_rows = part.corpora
        assert first_rows.start == 0
        assert first_rows.stop == second_rows.start
        assert second_rows.stop == len(part)
        letters = [source[0] for source, _ in texts(part)]
        assert letters == ["a"] * first_rows.stop + ["b"] * (len(part) - first_rows.stop)


@pytest.mark.parametrize(("num_letters", "held_letters"), [(5000, 500), (20_000, 1000)])
def test_holdout_of_running_text_is_its_end(
    tmp_path: Path, num_letters: int, held_letters: int
) -> None:
    text = ("abcdefghi\n" * num_letters)[:num_letters]
    (tmp_path / "a.txt").write_text(text)
    whole = encode_letters(CorpusConfig(text=tmp_path / "a.txt"))
    train, held = split_holdout(whole, holdout=1, seed=1)
    assert texts(train) == [("", text[:-held_letters])]
    assert texts(held) == [("", text[-held_letters:])]


@pytest.mark.parametrize(
    ("lengths", "held"),
    [
        ([400, 400, 50, 30], [50, 30]),  # 100 letters would be a tenth and more than fits
        ([800, 150], ["end of 95"]),  # the last text is longer than a tenth
    ],
)
def test_holdout_of_several_texts_is_the_last_ones(
    tmp_path: Path, lengths: list[int], held: list[int | str]
) -> None:
    pieces = [("abcdefghi\n" * length)[: length - 1] + "\n" for length in lengths]
    (tmp_path / "a.txt").write_text("\n".join(pieces))
    whole = encode_letters(CorpusConfig(text=tmp_path / "a.txt", separator="blank_line"))
    assert texts(whole) == [("", piece) for piece in pieces]
    train, validation = split_holdout(whole, holdout=1, seed=1)
    if held == ["end of 95"]:
        assert texts(train) == [("", pieces[0]), ("", pieces[1][:-95])]
        assert texts(validation) == [("", pieces[1][-95:])]
    else:
        assert texts(validation) == [("", piece) for piece in pieces[-len(held) :]]
        assert texts(train) == [("", piece) for piece in pieces[: -len(held)]]


def test_holdout_of_too_few_rows_is_an_error(tmp_path: Path) -> None:
    whole = encode_letters(write_tsv(tmp_path / "a.tsv", ("a", "b"), ("c", "d")))
    with pytest.raises(DataError, match=r"found 2 usable\. Give data\.validation"):
        split_holdout(whole, holdout=1, seed=1)


@pytest.mark.parametrize("num_groups", [5, 40, 100, 200])
def test_linked_rows_are_connected_components(num_groups: int) -> None:
    rng = np.random.default_rng(num_groups)
    first, second = rng.integers(num_groups, size=(2, 100))
    expected = list(range(100))  # The least row of each component, joined pair by pair.
    for one in range(100):
        for other in range(100):
            if first[one] == first[other] or second[one] == second[other]:
                low, high = sorted((expected[one], expected[other]))
                expected = [low if label == high else label for label in expected]
    linked = _linked(first, second)
    pairs = {(int(a), b) for a, b in zip(linked, expected, strict=True)}
    assert len(pairs) == len(set(expected)) == len(set(linked.tolist()))


def test_linking_a_long_chain_is_quick() -> None:
    rows = np.random.default_rng(0).permutation(100_000)
    assert not np.any(_linked(rows // 2, (rows + 1) // 2))
