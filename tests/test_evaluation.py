"""Scores of texts: against sacrebleu called by hand, and examples that can be counted."""

from typing import Any

import pytest
import sacrebleu

from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.evaluation import compare_texts

OUTPUTS = ["the cat sat on the mat .", "a dog barks loudly at night .", "春天到了。"]
FIRST = ["the cat sat on a mat .", "a dog barks at night .", "春天来了。"]
SECOND = ["a cat sat on the mat .", "at night a dog barks loudly .", "春天到了。"]


@pytest.mark.parametrize("tokenize", ["13a", "none", "char", "zh"])
def test_scores_equal_those_of_sacrebleu(tokenize: str) -> None:
    references = [list(pair) for pair in zip(FIRST, SECOND, strict=True)]
    found = compare_texts(OUTPUTS, references, tokenize=tokenize)
    bleu = sacrebleu.corpus_bleu(OUTPUTS, [FIRST, SECOND], tokenize=tokenize)
    assert found.bleu == pytest.approx(bleu.score)
    assert found.chrf == pytest.approx(sacrebleu.corpus_chrf(OUTPUTS, [FIRST, SECOND]).score)
    assert f"tok:{tokenize}" in found.bleu_signature
    assert "nrefs:2" in found.bleu_signature
    assert found.chrf_signature.startswith("nrefs:2")


def test_lines_may_have_different_numbers_of_references() -> None:
    found = compare_texts(OUTPUTS, [[FIRST[0]], [FIRST[1], SECOND[1]], [SECOND[2]]])
    # The second reference of the first and the last line count as not there.
    streams = [[FIRST[0], FIRST[1], SECOND[2]], [None, SECOND[1], None]]
    assert found.bleu == pytest.approx(sacrebleu.corpus_bleu(OUTPUTS, streams).score)


def test_an_output_is_right_if_it_equals_any_reference() -> None:
    found = compare_texts(["a", "b", "c", "d"], [["x", "a"], ["b"], ["C"], ["d ", "e"]])
    assert found.exact_match == 50.0
    assert found.num_lines == 4


def test_perfect_outputs_have_full_scores() -> None:
    found = compare_texts(FIRST, [[text] for text in FIRST])
    assert (round(found.bleu), round(found.chrf), found.exact_match) == (100, 100, 100.0)


@pytest.mark.parametrize(
    ("outputs", "references"), [([], []), (["a"], []), (["a"], [["a"], ["b"]]), (["a"], [[]])]
)
def test_a_number_of_references_that_does_not_fit_is_refused(outputs: Any, references: Any) -> None:
    with pytest.raises(InputError, match=f"Received: {len(outputs)} outputs"):
        compare_texts(outputs, references)


def test_a_reference_is_not_taken_for_one_reference_a_character() -> None:
    with pytest.raises(InputError, match=r"list of references.*\[\[reference\] for"):
        compare_texts(["ab", "c"], ["ab", "c"])
