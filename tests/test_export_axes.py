"""Exports of every axis of a config, in a table in which each pair of choices comes together.

Each is made as a run makes it, loaded in one fresh process without this package, and compared with
the Python API.
"""

import functools
import itertools
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq_kit.config import load_config
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.export import build, saved_model
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.export.verify import FreshAnswers, Outputs, Probes
from seq2seq_kit.model.build import build_model
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.special_ids import EOS_ID
from seq2seq_kit.tokens.tokenizer import Tokenizer

AXES: dict[str, tuple[Any, ...]] = {
    "tokenizer": ("unigram", "bpe", "char", "word"),
    "long_lines": ("error", "truncate", "mark"),
    "task": ("translation", "continuation"),
    "architecture": ("encoder_decoder", "language_model"),
    "vocabularies": (1, 2),
    "byte_fallback": (True, False),
    "shortlist": (False, True),
    "precision": ("float32", "bfloat16"),
    "beam_size": (1, 3),
    "length_penalty": (0.0, 1.0),
    "no_repeat_ngram": (0, 2),
    "batch_size": (3, 64),
    "attention": ("additive", "multiplicative"),
    "attention_layer": ("first", "last"),
    "encoder_layers": (1, 2),
    "decoder_layers": (1, 2),
    "tie_embeddings": (True, False),
}
# What is cut are ids, however they were made: this pair would add four exports.
UNRELATED = {"tokenizer", "long_lines"}
# Each beside another type: what it does is done before that.
NORMALIZATIONS = {"unigram": "nfc", "bpe": "nfd", "char": "nfkc", "word": "none"}
LIMIT = 20
# Every so many exports are asked for samples and for the signature that wraps `n_best`: that are
# three more graphs.
SAMPLED = 4

TEXT = "one two three four five six seven eight nine ten eleven twelve"
LINES = [
    "",
    "one two",
    "seven",
    " ",
    "a\0b",
    "春天",
    "  two   three ",
    "two\n",
    "ten nine eight",
    "\ufeff①\u00a0two",
]
LONG = 30 * "eleven "

FRESH_PROCESS = """
import json, sys
import tensorflow as tf, tensorflow_text
answers = []
for path, lines in json.load(sys.stdin):
    signatures = tf.saved_model.load(path).signatures
    answer = {}
    is_sampled = len(answers) % SAMPLED == 0
    for name in ("serving_default", "n_best") if is_sampled else ("n_best",):
        for number in (len(lines), 1):
            batches = [lines[i : i + number] for i in range(0, len(lines), number)]
            found = [signatures[name](inputs=tf.constant(batch)) for batch in batches]
            outputs = [line for one in found for line in one["outputs"].numpy().tolist()]
            if name == "n_best":
                texts = [[text.decode() for text in line] for line in outputs]
            else:
                texts = [text.decode() for text in outputs]
            scores = [score for one in found for score in one["scores"].numpy().tolist()]
            answer[f"{name} {number == 1}"] = [texts, scores]
    inputs = tf.constant(lines)
    if is_sampled:
        sampled = signatures["sample"](inputs=inputs, num_samples=2, seed=tf.constant(7, tf.int64))
        texts = sampled["outputs"].numpy().tolist()
        answer["samples"] = [[text.decode() for text in line] for line in texts]
        answer["sample_scores"] = sampled["scores"].numpy().tolist()
    scored = signatures["score"](inputs=inputs, targets=tf.constant(lines[::-1]))
    answer["score"] = [
        scored[name].numpy().tolist() for name in ("log_probs", "num_tokens", "token_log_probs")
    ]
    answer["cut"] = signatures["n_best"](inputs=tf.constant(lines))["is_cut"].numpy().tolist()
    answer["description"] = signatures["describe"]()["description"].numpy().decode()
    answers.append(answer)
json.dump(answers, sys.stdout)
""".replace("SAMPLED", str(SAMPLED))


class Exported(NamedTuple):
    row: dict[str, Any]
    model: Seq2Seq
    path: Path
    answer: dict[str, Any]


def is_possible(row: dict[str, Any]) -> bool:
    """Whether a config may have these choices, some of which may be missing."""
    language_model = row.get("architecture") == "language_model"
    continuation = row.get("task") == "continuation"
    return not (
        (language_model and row.get("task") == "translation")
        or (language_model and row.get("vocabularies") == 2)
        or ((continuation or language_model) and row.get("shortlist"))
        or ((continuation or language_model) and row.get("tokenizer") == "word")
    )


@functools.cache
def pairwise() -> list[dict[str, Any]]:
    """Returns rows in which any two possible choices of two axes stand together.

    Greedily: of some rows drawn around missing pairs, the one with the most of them. Of many seeds
    tried, this one needs the fewest rows, 11 instead of 14 without chance.
    """
    chance = random.Random(21)
    choices = [(axis, value) for axis, values in AXES.items() for value in values]
    missing = {
        frozenset(pair)
        for pair in itertools.combinations(choices, 2)
        if len(dict(pair)) == 2 and set(dict(pair)) != UNRELATED and is_possible(dict(pair))
    }
    rows: list[dict[str, Any]] = []
    while missing:
        row = max(
            (drawn_row(missing, chance) for _ in range(6)),
            key=lambda row: len(pairs_in(row) & missing),
        )
        missing -= pairs_in(row)
        rows.append(row)
    return rows


def drawn_row(missing: set[frozenset[Any]], chance: random.Random) -> dict[str, Any]:
    """Returns a row with a missing pair, whose other choices add the most missing pairs."""
    row = dict(chance.choice(sorted(missing, key=lambda pair: sorted(map(repr, pair)))))
    axes = [axis for axis in AXES if axis not in row]
    chance.shuffle(axes)
    for axis in axes:
        possible = [row | {axis: one} for one in AXES[axis] if is_possible(row | {axis: one})]
        chance.shuffle(possible)
        if not possible:
            return {}
        row = max(possible, key=lambda row: len(pairs_in(row) & missing))
    return row


def pairs_in(row: dict[str, Any]) -> set[frozenset[Any]]:
    return set(map(frozenset, itertools.combinations(row.items(), 2)))


def make(row: dict[str, Any]) -> Seq2Seq:
    """Returns an untrained model with the choices of a row, whose outputs are seldom empty."""
    continuation = row["task"] == "continuation"

    def train(text: str) -> Tokenizer:
        return Tokenizer.train(
            [text] * 9,
            type=row["tokenizer"],
            vocab_size=44 + 256 * row["byte_fallback"],
            byte_fallback=row["byte_fallback"],
            normalization=NORMALIZATIONS[row["tokenizer"]],
            lossless=continuation,
        )

    target = train(TEXT)
    source = target if row["vocabularies"] == 1 else train(f"{TEXT} thirteen fifty")
    decoding = (
        "beam_size",
        "length_penalty",
        "no_repeat_ngram",
        "batch_size",
        "shortlist",
        "precision",
    )
    network = (
        "architecture",
        "attention",
        "attention_layer",
        "encoder_layers",
        "decoder_layers",
        "tie_embeddings",
    )
    config = load_config(
        {
            "task": row["task"],
            "data": {"train": {"tsv": "none.tsv"}, "max_source_length": LIMIT},
            "model": {"embedding_dim": 8, "units": 16, "init_scale": 1.0}
            | {key: row[key] for key in network},
            "decoding": {"max_length": 6} | {key: row[key] for key in decoding},
        }
    )
    keras.utils.set_random_seed(3)
    model = build_model(
        config.model,
        target.vocab_size,
        None if row["vocabularies"] == 1 else source.vocab_size,
    )
    model.output_bias.assign_add(tf.one_hot(EOS_ID, target.vocab_size, on_value=-2.0))
    rng = np.random.default_rng(1)
    shortlist = Shortlist(
        np.arange(4, 12, dtype=np.int32),
        rng.integers(4, target.vocab_size, (source.vocab_size, 3)).astype(np.int32),
    )
    return Seq2Seq(
        model,
        Tokenizers(source, target),
        config,
        shortlist=shortlist if row["task"] == "translation" else None,
    )


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Exported]]:
    folder = tmp_path_factory.mktemp("axes")
    rows = pairwise()
    models = [make(row) for row in rows]
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        # One process asks all of them below, for more hypotheses than a verification does.
        patch.setattr(build, "make_probes", lambda *_: Probes([], Outputs([], [])))
        patch.setattr(saved_model, "verify_export", lambda *_: FreshAnswers([], "", {}))
        for number, (row, model) in enumerate(zip(rows, models, strict=True)):
            path = folder / str(number)
            model.export(path, long_lines=row["long_lines"])
            asked.append([str(path), lines_of(row)])
    ended = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answers = json.loads(ended.stdout)
    yield [
        Exported(row, model, Path(path), answer)
        for row, model, (path, _), answer in zip(rows, models, asked, answers, strict=True)
    ]


def lines_of(row: dict[str, Any]) -> list[str]:
    return LINES if row["long_lines"] == "error" else [*LINES[:4], LONG, *LINES[4:], LONG]


def test_the_table_has_every_pair_of_choices() -> None:
    rows = pairwise()
    assert all(map(is_possible, rows))
    for one, other in itertools.combinations(AXES, 2):
        if {one, other} == UNRELATED:
            continue
        for pair in itertools.product(AXES[one], AXES[other]):
            choice = dict(zip((one, other), pair, strict=True))
            assert not is_possible(choice) or any(choice.items() <= row.items() for row in rows)


def test_every_export_answers_as_the_python_api(exports: list[Exported]) -> None:
    some_text = 0
    for row, model, _, answer in exports:
        lines, beam = lines_of(row), row["beam_size"]
        found = list(model.hypotheses(lines, num_hypotheses=beam, truncate=True))
        texts = [[one.text for one in line] for line in found]
        scores = [[one.score for one in line] for line in found]
        cut = [[one.is_cut for one in line] for line in found]
        for place, line in enumerate(lines):
            if is_marked(row, line):
                texts[place], scores[place] = [""] * beam, [-np.inf] * beam
                cut[place] = [False] * beam
        assert answer["cut"] == cut, row
        for one_by_one in (True, False):
            assert answer[f"n_best {one_by_one}"][0] == texts, row
            np.testing.assert_allclose(answer[f"n_best {one_by_one}"][1], scores, atol=1e-4)
            if "samples" in answer:
                best = answer[f"serving_default {one_by_one}"]
                assert best[0] == [line[0] for line in texts], row
                np.testing.assert_allclose(best[1], [line[0] for line in scores], atol=1e-4)
        if "samples" in answer:
            check_samples(row, model, lines, answer)
        check_scores(row, model, lines, answer)
        some_text += any(line[0] for line in texts)
    assert some_text > len(exports) / 2


def check_samples(
    row: dict[str, Any], model: Seq2Seq, lines: list[str], answer: dict[str, Any]
) -> None:
    found = list(model.hypotheses(lines, sample=True, seed=7, num_hypotheses=2, truncate=True))
    for place, line in enumerate(found):
        texts, scores = [one.text for one in line], [one.score for one in line]
        if is_marked(row, lines[place]):
            texts, scores = ["", ""], [-np.inf] * 2
        assert answer["samples"][place] == texts, row
        np.testing.assert_allclose(answer["sample_scores"][place], scores, atol=1e-4)


def check_scores(
    row: dict[str, Any], model: Seq2Seq, lines: list[str], answer: dict[str, Any]
) -> None:
    # `Seq2Seq.score` has float32 products whatever the precision of the search.
    absolute, relative = (1e-4, 1e-5) if row["precision"] == "float32" else (0.3, 3e-3)
    expected = model.score(lines, lines[::-1], truncate=True)
    for place, one in enumerate(expected):
        log_prob, num_tokens, by_token = (column[place] for column in answer["score"])
        if is_marked(row, lines[place]):
            assert (log_prob, num_tokens) == (-np.inf, 0)
            continue
        assert num_tokens == one.num_tokens, row
        np.testing.assert_allclose(log_prob, one.log_prob, atol=absolute, rtol=relative)
        np.testing.assert_allclose(sum(by_token), log_prob, atol=1e-3)
        assert not any(by_token[num_tokens:])


def is_marked(row: dict[str, Any], line: str) -> bool:
    """Whether an export marks an input: a language model reads a prompt of any length."""
    is_long = row["long_lines"] == "mark" and row["architecture"] == "encoder_decoder"
    return is_long and line == LONG


def test_every_export_can_be_looked_into(exports: list[Exported]) -> None:
    for number, (row, model, path, _) in enumerate(exports):
        rebuilt = ExportedModel(path).rebuilt
        # The operands of products are rounded to 8 bits of mantissa, as the search rounds them.
        relative = 0.0 if row["precision"] == "float32" else 2.0**-8
        pairs = zip(rebuilt.model.get_weights(), model.model.get_weights(), strict=True)
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=relative, atol=0, err_msg=str(row))
        if number % SAMPLED:  # A search needs another graph, and what it reads is compared above.
            continue
        lines = LINES[1:3]
        found = rebuilt.hypotheses(lines, num_hypotheses=row["beam_size"])
        expected = model.hypotheses(lines, num_hypotheses=row["beam_size"])
        assert [[one.text for one in line] for line in found] == [
            [one.text for one in line] for line in expected
        ], row


def test_every_export_says_what_it_is(exports: list[Exported]) -> None:
    for row, _, path, answer in exports:
        assert (path / "metadata.json").read_text(encoding="utf-8") == answer["description"]
        metadata = json.loads(answer["description"])
        limited = row["architecture"] == "encoder_decoder"
        assert metadata["max_source_length"] == (LIMIT if limited else None)
        said = metadata | metadata["decoding"] | metadata["model"]
        said["tokenizer"] = row["tokenizer"]
        assert {axis: said[axis] for axis in row if axis in said} == {
            axis: value for axis, value in row.items() if axis in said
        }
