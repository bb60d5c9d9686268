"""The whole way, from files to answers: does a small model learn a small task?"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CYCLE, FAST, TrainedRun

from seq2seq_kit.model.networks import EncoderDecoder
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.text.lines import read_lines


def test_words_never_seen_are_reversed(
    translation_run: TrainedRun, unseen_words: list[str]
) -> None:
    translator = Seq2Seq.load(translation_run.path)
    expected = [word[::-1] for word in unseen_words]
    for beam_size in (1, 5):
        outputs = translator.generate(unseen_words, beam_size=beam_size)
        right = sum(a == b for a, b in zip(outputs, expected, strict=True))
        assert right >= 0.9 * len(expected)
    found = translator.evaluate(unseen_words, [[word] for word in expected])
    assert found.exact_match == 100 * right / len(expected)


def test_the_right_answer_is_likelier_than_a_wrong_one(
    translation_run: TrainedRun, unseen_words: list[str]
) -> None:
    words = [word for word in unseen_words if word != word[::-1]]
    right = translation_run.fitted.score(words, [word[::-1] for word in words])
    wrong = translation_run.fitted.score(words, words)
    better = [a.log_prob > b.log_prob for a, b in zip(right, wrong, strict=True)]
    assert sum(better) >= 0.95 * len(words)


def test_a_text_read_again_and_again_is_continued(continuation_run: TrainedRun) -> None:
    continuer = Seq2Seq.load(continuation_run.path)
    one, seven, nothing = continuer.generate(["one two", "six seven\n", ""], max_length=40)
    assert one.startswith(" three four five six seven\none two")
    assert seven.startswith("one two three")
    assert nothing


def test_an_encoder_decoder_continues_a_text_read_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(120 * CYCLE, encoding="utf-8")
    config = {
        "task": "continuation",
        "data": {"root": str(tmp_path), "train": {"text": "text.txt"}, "window": 24},
        "tokenizer": {"type": "char", "vocab_size": 40, "byte_fallback": False},
        "model": {
            "architecture": "encoder_decoder",
            "embedding_dim": 16,
            "units": 32,
            "dropout": 0.0,
            "init_scale": 0.3,
        },
        "training": {"epochs": 20, "batch_size": 8, **FAST},
        "decoding": {"max_length": 12, "max_loop_characters": 0},
    }
    fitted = Seq2Seq.fit(config, run_dir=tmp_path / "run")
    assert isinstance(fitted.model, EncoderDecoder)
    loaded = Seq2Seq.load(tmp_path / "run")
    for prompt in ("one two three", "five six seven\none two thr"):
        (output,) = loaded.generate([prompt])
        assert (prompt + output) in 3 * CYCLE, output


def test_two_vocabularies_learn_and_the_test_data_are_scored_at_the_end(
    translation_config: dict[str, Any], tmp_path: Path
) -> None:
    pairs = [
        line.split("\t") for line in read_lines(Path(translation_config["data"]["train"]["tsv"]))
    ]
    # Other letters on the target side, so that the vocabularies differ.
    greek = str.maketrans("abcde", "αβγδε")
    for name, chosen in (("train", pairs[:-40]), ("test", pairs[-40:])):
        text = "".join(f"{source}\t{target.translate(greek)}\n" for source, target in chosen)
        (tmp_path / f"{name}.tsv").write_text(text, encoding="utf-8")
    vocabulary = translation_config["tokenizer"]
    config = translation_config | {
        "data": {"root": str(tmp_path), "train": "train.tsv", "test": "test.tsv"},
        "tokenizer": {"source": vocabulary, "target": vocabulary | {"type": "unigram"}},
        "decoding": {"max_length": 12},
    }
    fitted = Seq2Seq.fit(config, run_dir=tmp_path / "run")
    loaded = Seq2Seq.load(tmp_path / "run")
    assert loaded.source_tokenizer.fingerprint != loaded.tokenizer.fingerprint
    sources = [source for source, _ in pairs[-40:]]
    targets = [target.translate(greek) for _, target in pairs[-40:]]
    found = loaded.evaluate(sources, [[target] for target in targets])
    assert found.exact_match >= 60
    results = fitted.results
    assert results["test_num_lines"] == 40
    assert results["test_exact_match"] == found.exact_match
    scores = loaded.score(sources, targets)
    nats = -sum(score.log_prob for score in scores) / sum(score.num_tokens for score in scores)
    assert results["test_loss"] == pytest.approx(nats, rel=1e-4)
    assert results["test_perplexity"] == pytest.approx(np.exp(nats), rel=1e-4)


def test_validation_loss_falls_and_is_the_perplexity_of_the_results(
    translation_run: TrainedRun,
) -> None:
    history = translation_run.fitted.history
    losses = [record["val_loss"] for record in history]
    assert losses[0] > 1.0
    assert min(losses) < 0.2
    assert translation_run.fitted.results["validation_loss"] == min(losses)
