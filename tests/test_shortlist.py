"""The lexical shortlist: learned as a plain loop learns it, and obeyed line by line."""

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import TrainedRun
from reference import (
    VOCAB_SIZE,
    NumberTokenizer,
    generator_of,
    random_lines,
    random_network,
    small_shortlist,
)

from seq2seq_kit.config import DecodingConfig, load_config
from seq2seq_kit.data import shortlist as shortlist_module
from seq2seq_kit.data.encoded import Sequences
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.decoding.numerics import BLOCK
from seq2seq_kit.errors import ConfigError, InputError, RunError
from seq2seq_kit.inference.generator import Generator
from seq2seq_kit.inference.shortlist import find_candidates
from seq2seq_kit.seq2seq import Seq2Seq

EOS = 3
LINES = random_lines(30, longest=9)


def sequences(rows: list[list[int]]) -> Sequences:
    stops = np.cumsum([len(row) for row in rows])
    return Sequences(np.concatenate(rows), np.append(0, stops[:-1]), stops)


def plain_model_1(pairs: list[tuple[list[int], list[int]]]) -> dict[tuple[int, int], float]:
    """Expectation maximisation of IBM Model 1, token by token."""
    table: dict[tuple[int, int], float] = defaultdict(lambda: 1.0)
    for _ in range(5):
        counts: dict[tuple[int, int], float] = defaultdict(float)
        totals: dict[int, float] = defaultdict(float)
        for source, target in pairs:
            for t in target:
                whole = sum(table[s, t] for s in source)
                for s in source:
                    counts[s, t] += table[s, t] / whole
                    totals[s] += table[s, t] / whole
        table = defaultdict(float, {(s, t): n / totals[s] for (s, t), n in counts.items()})
    return table


def random_pairs(number: int, vocab_size: int) -> list[tuple[list[int], list[int]]]:
    rng = np.random.default_rng(5)
    return [
        (
            rng.integers(4, vocab_size, rng.integers(1, 7)).tolist(),
            rng.integers(4, vocab_size, rng.integers(1, 7)).tolist(),
        )
        for _ in range(number)
    ]


def learn(pairs: list[tuple[list[int], list[int]]], vocab_size: int) -> Shortlist:
    return Shortlist.learn(
        sequences([source for source, _ in pairs]),
        sequences([target for _, target in pairs]),
        source_vocab_size=vocab_size,
        vocab_size=vocab_size,
        seed=1,
    )


def test_translations_are_those_of_a_plain_model_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortlist_module, "_TRANSLATIONS", 4)
    pairs = random_pairs(60, vocab_size=24)
    found = learn(pairs, 24)
    table = plain_model_1([([*source, EOS], target) for source, target in pairs])
    for source in (EOS, *range(4, 24)):
        ranked = sorted((p for (s, _), p in table.items() if s == source), reverse=True)
        of_found = [table[source, target] for target in found.translations[source].tolist()]
        np.testing.assert_allclose(of_found, ranked[:4], rtol=1e-9)


def test_a_token_learns_its_translation_and_not_its_neighbours() -> None:
    # 10 is translated as 20 and 11 as 21, wherever both occur together.
    pairs = [([10, 11], [21, 20]), ([10], [20]), ([11, 12], [22, 21])] * 3
    found = learn(pairs, 30)
    assert [found.translations[token][0] for token in (10, 11, 12)] == [20, 21, 22]
    assert found.translations[13].tolist() == [EOS] * found.translations.shape[1]


def test_frequent_tokens_come_first_and_special_ones_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shortlist_module, "_FREQUENT", 2)
    found = learn([([5], [9, 9, 9, 1, 1, 1, 1, 8, 8, 7])], 12)
    assert found.frequent.tolist() == [9, 8]


def test_a_large_corpus_is_learnt_from_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortlist_module, "_MAX_LINKS", 100)
    lengths = np.full(1000, 4)
    rows = shortlist_module._choose_rows(lengths + 1, lengths, seed=1)
    assert len(rows) == 100 // 20
    assert rows.max() > 100
    # A single row that is too long for itself is better than nothing.
    assert shortlist_module._choose_rows(np.array([50]), np.array([50]), seed=1).tolist() == [0]


def own_list(shortlist: Shortlist, ids: list[int]) -> set[int]:
    translations = shortlist.translations[ids].ravel().tolist()
    return {EOS, *shortlist.frequent.tolist(), *translations}


def test_each_line_has_its_own_list() -> None:
    shortlist = small_shortlist()
    ids = np.array([[5, 6, 3, 0], [300, 3, 0, 0], [0, 0, 0, 0]], np.int32)
    candidates = find_candidates(shortlist, tf.constant(ids))
    token_ids = candidates.token_ids.numpy()
    assert token_ids[:4].tolist() == [0, 1, 2, 3]
    real = token_ids[: token_ids.nonzero()[0].max() + 1]
    assert len(set(real)) == len(real)
    assert len(token_ids) % BLOCK == 0
    for row, allowed in zip(ids.tolist(), candidates.allowed.numpy(), strict=True):
        assert set(token_ids[allowed]) == own_list(shortlist, row)


def generator_with(shortlist: Shortlist | None) -> Generator:
    return generator_of(
        random_network("multiplicative"),
        NumberTokenizer(),
        NumberTokenizer(),
        defaults=DecodingConfig(max_length=10),
        max_source_length=20,
        keep_end=False,
        shortlist=shortlist,
    )


@pytest.mark.parametrize("beam_size", [1, 5])
def test_a_shortlist_is_the_whole_vocabulary_with_the_others_forbidden(beam_size: int) -> None:
    shortlist = small_shortlist()
    found = list(generator_with(shortlist).hypotheses(LINES, beam_size=beam_size, shortlist=True))
    whole = generator_with(None)
    bias = whole.model.output_bias.numpy()
    for line, (narrow,) in zip(LINES, found, strict=True):
        ids = [*whole.tokenizer.encode([line])[0], EOS]
        forbidden = [i for i in range(VOCAB_SIZE) if i not in own_list(shortlist, ids)]
        only = bias.copy()
        only[forbidden] = -1e9
        whole.model.output_bias.assign(only)
        ((expected,),) = whole.hypotheses([line], beam_size=beam_size)
        assert narrow.token_ids == expected.token_ids
        np.testing.assert_allclose(narrow.score, expected.score, rtol=1e-4)


@pytest.mark.parametrize("is_narrow", [True, False])
def test_a_beam_is_never_worse_than_greedy_search(is_narrow: bool) -> None:
    generator = generator_with(small_shortlist() if is_narrow else None)
    lines = random_lines(300, longest=9)
    for length_penalty in (0.0, 1.0):
        options = {"length_penalty": length_penalty, "shortlist": is_narrow}
        beam, greedy = (
            [best.score for (best,) in generator.hypotheses(lines, beam_size=size, **options)]
            for size in (5, 1)
        )
        assert np.max(np.subtract(greedy, beam)) < 1e-5


@pytest.mark.parametrize("beam_size", [1, 5])
def test_a_line_comes_out_the_same_in_any_company(beam_size: int) -> None:
    generator = generator_with(small_shortlist())
    options = {"beam_size": beam_size, "shortlist": True}
    together = [one.text for (one,) in generator.hypotheses(LINES, **options)]
    alone = [one.text for (one,) in generator.hypotheses(LINES, batch_size=1, **options)]
    assert together == alone
    assert len(set(together)) > 5


def test_a_beam_wider_than_the_list_finds_what_there_is() -> None:
    translations = np.full((VOCAB_SIZE, 1), EOS, np.int32)
    generator = generator_with(Shortlist(np.array([7], np.int32), translations))
    ((*found,),) = generator.hypotheses(
        LINES[:1], beam_size=8, num_hypotheses=8, max_length=2, shortlist=True
    )
    # EOS, 7 EOS, and 7 7, which the maximum length cuts or EOS ends.
    texts = {one.token_ids for one in found if one.token_ids}
    assert {(3,), (7, 3)} <= texts
    assert texts & {(7, 7), (7, 7, 3)}
    assert {token for ids in texts for token in ids} == {3, 7}


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    before = small_shortlist()
    before.save(tmp_path / "list.npz")
    after = Shortlist.load(tmp_path / "list.npz")
    np.testing.assert_array_equal(after.frequent, before.frequent)
    np.testing.assert_array_equal(after.translations, before.translations)
    (tmp_path / "list.npz").write_bytes(b"half")
    with pytest.raises(RunError, match=r"list\.npz"):
        Shortlist.load(tmp_path / "list.npz")


def test_asking_for_a_missing_shortlist_is_a_clear_error() -> None:
    with pytest.raises(InputError, match="no shortlist"):
        next(generator_with(None).hypotheses(LINES, shortlist=True))


def test_a_continuation_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    config = {"task": "continuation", "data": {"train": {"lines": "a.txt"}}}
    with pytest.raises(ConfigError, match=r"decoding\.shortlist: is for `task: translation` only"):
        load_config({**config, "decoding": {"shortlist": True}})


def test_training_a_translation_leaves_one(translation_run: TrainedRun) -> None:
    loaded = Seq2Seq.load(translation_run.path)
    words = ["ab", "dca"]
    # The run has few pieces: each list holds them all.
    assert loaded.generate(words, shortlist=True) == loaded.generate(words)
    assert translation_run.fitted.generate(words, shortlist=True) == loaded.generate(words)


def test_a_resumed_run_keeps_its_own(
    translation_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(translation_run.path, tmp_path / "run")

    def learn_again(*_: object) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr("seq2seq_kit.training.start.learn_shortlist", learn_again)
    resumed = Seq2Seq.fit(translation_run.fitted.config, run_dir=run, resume=True)
    assert resumed.generate(["ab"], shortlist=True) == translation_run.fitted.generate(["ab"])
