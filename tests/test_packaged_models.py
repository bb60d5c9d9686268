"""The models that come with the package answer by their names, as their cards say."""

import re

import pytest

from seq2seq_kit.pretrained import list_models
from seq2seq_kit.pretrained.catalog import find_model
from seq2seq_kit.seq2seq import Seq2Seq

HAN = re.compile("[\u4e00-\u9fff]")


def test_the_names_of_the_packaged_models() -> None:
    names = {model.name for model in list_models()}
    assert names >= {"de-en", "en-de", "en-g2p", "en-zh", "zh-en", "zh-prose"}


def test_a_translator_answers() -> None:
    translator = Seq2Seq.load("de-en")
    # Sentences of its training data, which it should know by now.
    assert translator.generate(["Ich bin müde.", "Wo ist Tom?"]) == ["I'm tired.", "Where's Tom?"]


def test_pronunciations_are_phones_with_stress() -> None:
    (cats,) = Seq2Seq.load("en-g2p").generate(["cats"], beam_size=1)
    assert cats == "K AE1 T S"


def test_the_writer_continues_in_chinese_with_the_options_of_a_run() -> None:
    writer = Seq2Seq.load("zh-prose")
    prompt = "春天到了，万物复苏。"
    first, second = (writer.generate([prompt], max_length=12, seed=seed)[0] for seed in (1, 2))
    assert first != second
    assert all(len(HAN.findall(text)) > 0.6 * len(text.strip()) for text in (first, second))
    assert writer.generate([prompt], max_length=12, seed=1)[0] == first


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("de-en", "tatoeba.org"),
        ("en-zh", "tatoeba.org"),
        ("en-g2p", "Carnegie Mellon University"),
        ("zh-prose", "African Storybook"),
    ],
)
def test_a_card_names_whom_the_data_ask_to_be_named(name: str, words: str) -> None:
    assert words in find_model(name).card
