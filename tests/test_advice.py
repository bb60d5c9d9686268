"""Advice from constructed histories: what is poor is named, what is good is left alone."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from seq2seq_kit.config import Config, load_config
from seq2seq_kit.training.advice import advise, describe_outputs


def config(**sections: Any) -> Config:
    return load_config({"data": {"train": "pairs.tsv"} | sections.pop("data", {}), **sections})


def history(losses: Sequence[tuple[float, float]], every: int = 1000) -> list[dict[str, float]]:
    """Validations after each `every` steps: training loss and validation loss."""
    return [
        {
            "step": every * number,
            "epoch": number,
            "loss": loss,
            "val_loss": val_loss,
            "val_perplexity": math.exp(val_loss),
        }
        for number, (loss, val_loss) in enumerate(losses, start=1)
    ]


SETTLED = history([(4.0, 3.5), (3.0, 2.8), (2.6, 2.5), (2.4, 2.40), (2.3, 2.38), (2.25, 2.375)])
GOOD = {
    "ended": "no better validation loss for 4 validations",
    "guessing_perplexity": 300.0,
    "validation_bleu": 35.0,
    "validation_num_lines": 1000,
    "validation_empty_outputs": 2,
    "validation_copied_inputs": 10,
    "validation_copied_inputs_in_references": 9,
    "validation_words_per_reference": 7.2,
    "validation_references_without_spaces": 0.0,
}


def advice(records: Any = SETTLED, sections: Any = None, **results: Any) -> list[str]:
    return advise(config(**(sections or {})), records, GOOD | results, 4000)


@pytest.mark.parametrize(
    "ended",
    [
        "no better validation loss for 4 validations",
        "30 epochs are done",
        "10 minutes are over",
        "6000 steps are done",
    ],
)
def test_a_good_run_gets_no_advice(ended: str) -> None:
    assert advice(ended=ended) == []


def test_a_run_that_early_stopping_ended_gets_no_advice() -> None:
    # Four validations without a better one: a small rise, as every such run has.
    rising = [*SETTLED, *history([(2.1, 2.39), (2.0, 2.42), (1.9, 2.46), (1.8, 2.5)])]
    for number, record in enumerate(rising, start=1):
        record["step"] = 1000 * number
    assert advice(rising) == []


def test_a_run_without_history_or_results_gets_no_advice() -> None:
    assert advise(config(), [], {}, 4000) == []


def test_results_of_an_older_version_get_no_wrong_advice() -> None:
    old = {"ended": "30 epochs are done", "validation_bleu": 30.0, "validation_num_lines": 10}
    assert advise(config(), SETTLED, old, 4000) == []


@pytest.mark.parametrize(
    ("ended", "key"),
    [
        ("10 minutes are over", "training.max_minutes"),
        ("1 minute is over", "training.max_minutes"),
        ("1 minutes are over", "training.max_minutes"),  # as runs of earlier versions say
        ("30 epochs are done", "training.epochs"),
        ("500 steps are done", "training.max_steps"),
    ],
)
@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_end_while_the_loss_falls_names_the_limit(ended: str, key: str, number: int) -> None:
    (sentence,) = advice(SETTLED[:number], ended=ended)
    assert f"raise {key}" in sentence


def test_two_validations_close_together_at_the_end_do_not_show_a_settled_loss() -> None:
    records = [SETTLED[3] | {"step": 318}, SETTLED[3] | {"step": 319, "val_loss": 2.399}]
    (sentence,) = advice(records, ended="0.7 minutes are over")
    assert "raise training.max_minutes" in sentence


def test_an_end_by_early_stopping_is_no_limit() -> None:
    assert advice(SETTLED[:3], ended="a callback asked to stop") == []


def test_overfitting_names_dropout_and_then_the_size() -> None:
    overfit = history([(3.0, 2.5), (2.0, 2.4), (1.2, 2.6), (0.6, 2.9)])
    (sentence,) = advice(overfit, {"model": {"dropout": 0.1}})
    assert "raise model.dropout (now 0.1)" in sentence
    assert "from step 2000 on" in sentence
    (sentence,) = advice(overfit, {"model": {"dropout": 0.5, "units": 1024}})
    assert "lower model.units (now 1024)" in sentence


def test_a_validation_loss_that_rises_with_the_training_loss_is_not_overfitting() -> None:
    assert advice(history([(3.0, 2.5), (2.0, 2.4), (2.4, 2.7), (2.6, 2.9)])) == []


def test_a_perplexity_no_better_than_guessing_is_reported_with_the_cure() -> None:
    # The Chinese text of the issue: 174 steps, 8,000 pieces.
    early = history([(7.6, math.log(1522))], every=174)
    results = GOOD | {"guessing_perplexity": 1600.0, "ended": "6 minutes are over"}
    first, _ = advise(config(), early, results, 8000)
    assert "perplexity is 1,522 (guessing by frequency has 1,600)" in first
    assert "174 steps are too few" in first
    late = history([(7.6, 7.4), (7.5, 7.35), (7.5, 7.34)])
    (sentence,) = advise(config(), late, GOOD | {"guessing_perplexity": None}, 8000)
    assert "training.learning_rate" in sentence


def test_few_equally_likely_tokens_are_no_failure() -> None:
    # Random digits: nothing better than ten is possible.
    digits = history([(2.4, 2.303), (2.31, 2.3027), (2.303, 2.3026)])
    assert advise(config(), digits, GOOD | {"guessing_perplexity": 11.0}, 15) == []


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"empty_outputs": 120}, ["12% of the outputs are empty", "decoding.length_penalty"]),
        ({"cut_outputs": 300}, ["30% of the outputs were cut", "decoding.max_length"]),
        ({"copied_inputs": 600}, ["60% of the outputs repeat their input", "data.train"]),
    ],
)
def test_faulty_outputs_are_counted(counts: dict[str, int], words: list[str]) -> None:
    (sentence,) = advice(**{f"validation_{key}": value for key, value in counts.items()})
    assert all(word in sentence for word in words)


def test_copies_that_are_right_are_no_fault() -> None:
    # Spelling normalization: most words stay as they are.
    assert advice(validation_copied_inputs=620, validation_copied_inputs_in_references=600) == []


def test_bleu_of_single_words_and_of_text_without_spaces_is_reported() -> None:
    by_bleu = {"training": {"early_stopping": {"metric": "bleu"}}}
    (sentence,) = advice(sections=by_bleu, validation_words_per_reference=1.04)
    assert "exact match and chrF" in sentence
    # Else it decides nothing, and nothing is to be changed.
    assert advice(validation_words_per_reference=1.04) == []
    (sentence,) = advice(
        validation_words_per_reference=1.0, validation_references_without_spaces=1.0
    )
    assert "data.bleu_tokenize to zh" in sentence
    chinese = {"data": {"bleu_tokenize": "zh"}}
    assert (
        advice(
            sections=chinese,
            validation_words_per_reference=1.0,
            validation_references_without_spaces=1.0,
        )
        == []
    )


@pytest.mark.parametrize(("number", "words"), [(1, "once"), (3, "3 times")])
def test_a_divergence_names_the_learning_rate_that_worked(number: int, words: str) -> None:
    training = {"training": {"learning_rate": 0.008}}
    (sentence,) = advice(sections=training, divergences=number)
    assert words in sentence
    assert f"training.learning_rate to {0.008 / 2**number:g} (now 0.008)" in sentence


def test_at_most_two_sentences_are_given() -> None:
    assert (
        len(
            advice(
                SETTLED[:2],
                ended="1 minutes are over",
                validation_empty_outputs=500,
                validation_cut_outputs=500,
                validation_words_per_reference=1.0,
            )
        )
        == 2
    )


def test_outputs_are_described_by_counts() -> None:
    sources = ["eins zwei", "drei", "vier", ""]
    references = ["one two", "three", "vier", ""]
    outputs = ["one two", "drei", "vier", ""]
    assert describe_outputs(sources, references, outputs) == {
        "empty_outputs": 1,
        "copied_inputs": 2,
        "copied_inputs_in_references": 1,
        "words_per_reference": 1.0,
        "references_without_spaces": 0.0,
    }
    assert describe_outputs(["a"], ["春天到了。"], ["b"])["references_without_spaces"] == 1.0
