"""The n-gram model of `benchmarks/kneser_ney.py`, against its formulas written out plainly."""

import importlib.util
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kneser_ney.py"
TEXT = "".join(random.Random(1).choice("aabbbcde") for _ in range(400)) + "xyzxq"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kneser_ney", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_model(text: str, order: int, vocab_size: int) -> Callable[[str, str], float]:
    """Chen and Goodman's recursion, with a dictionary of n-grams for each order."""
    grams = {
        n: Counter(text[i : i + n] for i in range(len(text) - n + 1)) for n in range(1, order + 1)
    }
    counts: dict[int, dict[str, int]] = {order: dict(grams[order])}
    for n in range(1, order):
        before = defaultdict(set)
        for gram in grams[n + 1]:
            before[gram[1:]].add(gram[0])
        counts[n] = {gram: len(before[gram]) for gram in grams[n]}
    discounts = {}
    for n, count in counts.items():
        of = [max(1, sum(number == k for number in count.values())) for k in (1, 2, 3, 4)]
        share = of[0] / (of[0] + 2 * of[1])
        found = [k - (k + 1) * share * of[k] / of[k - 1] for k in (1, 2, 3)]
        if not all(0 < one <= k for k, one in enumerate(found, start=1)):
            found = [0.5, 1.0, 1.5]
        discounts[n] = [0.0, *found]

    def probability(character: str, context: str) -> float:
        n = len(context) + 1
        shorter = probability(character, context[1:]) if context else 1 / vocab_size
        following = {g: c for g, c in counts[n].items() if g[:-1] == context}
        total = sum(following.values())
        if not total:
            return shorter
        removed = sum(discounts[n][min(c, 3)] for c in following.values() if c)
        count = following.get(context + character, 0)
        kept = count - discounts[n][min(count, 3)] if count else 0.0
        return kept / total + removed / total * shorter

    return probability


def test_kneser_ney_equals_the_plain_recursion(script: ModuleType) -> None:
    model = script.KneserNey(TEXT, order=3)
    probability = plain_model(TEXT, 3, model.vocab_size)
    held_out = "abcdeabxeebac?dddqa"
    wanted = [
        math.log(probability(one, held_out[max(0, place - 2) : place]))
        for place, one in enumerate(held_out)
    ]
    np.testing.assert_allclose(model.log_probs(held_out), wanted, rtol=1e-12)


@pytest.mark.parametrize("context", ["", "a", "ab", "ec", "?a", "a?", "zz", "xq"])
def test_kneser_ney_distributes_all_of_the_probability(script: ModuleType, context: str) -> None:
    model = script.KneserNey(TEXT, order=3)
    characters = [*sorted(set(TEXT)), "?"]
    total = sum(math.exp(model.log_probs(context + one)[-1]) for one in characters)
    assert total == pytest.approx(1.0, abs=1e-9)
