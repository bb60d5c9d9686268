"""The training texts that `benchmarks/zh_prose_texts.py` makes for the packaged writer."""

import importlib.util
import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "zh_prose_texts.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("zh_prose_texts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["zh_prose_texts"] = module
    spec.loader.exec_module(module)
    return module


def test_pieces_from_a_collection_with_notes_are_left_out(script: ModuleType) -> None:
    def file_of(author: str, register: str, source: str) -> str | None:
        name: str | None = script.register_file(script.Piece(["一"], author, register, source))
        return name

    assert file_of("郁达夫", "story", "a/b@1:郁达夫大全集.txt") is None
    assert file_of("郁达夫", "story", "a/b@1:books/郁达夫.txt") == "stories.txt"
    assert file_of("鲁迅", "essay", "a") == "polemics.txt"
    assert file_of("徐志摩", "essay", "a") == "essays.txt"


def test_pieces_are_divided_at_empty_lines(script: ModuleType) -> None:
    assert script.split_pieces(["", "一", "二", "", "", "三", ""]) == [["一", "二"], ["三"]]


def test_passages_use_each_sentence_once_and_stay_with_their_subject(script: ModuleType) -> None:
    # Two subjects, in orthogonal directions; all sentences differ in all their characters.
    num = 80
    sentences = [chr(0x4E00 + 3 * n) + chr(0x4E01 + 3 * n) + "。" for n in range(num)]
    vectors = np.eye(2, dtype=np.float32)[[n % 2 for n in range(num)]]
    passages = script.make_passages(sentences, vectors, random.Random(1))
    assert Counter(one for passage in passages for one in passage) == Counter(sentences)
    subjects = [{sentences.index(one) % 2 for one in passage} for passage in passages]
    # Only what is left in the end is joined without regard to its subject.
    assert sum(len(one) > 1 for one in subjects) <= 2
    assert max(map(len, passages)) <= 2 * script.MOST_SENTENCES


def test_variants_of_a_sentence_are_not_in_one_passage(script: ModuleType) -> None:
    variants = [f"我昨天在学校里看见了{chr(0x5000 + n)}。" for n in range(70)]
    passages = script.make_passages(variants, np.ones((70, 1), np.float32), random.Random(1))
    grams = [frozenset(script.bigrams(one)) for one in variants]
    assert not script.is_new(grams[0], grams, [1])
    assert sorted(one for passage in passages for one in passage) == sorted(variants)


def test_a_passage_names_each_person_consistently(script: ModuleType) -> None:
    passage = script.rename("汤姆来了。玛丽看见汤姆。", random.Random(1))
    assert "汤姆" not in passage
    assert passage.index("来") == 2
    assert passage[:2] == passage[-3:-1]
