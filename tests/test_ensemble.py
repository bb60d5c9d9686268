"""Ensembles: what they compute against each member's own steps, and what they refuse."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from backwards import Backwards
from searches import StepDecoder, beam_search
from small_config import write_texts
from untrained import untrained_run, untrained_writer

import seq2seq_kit
from seq2seq_kit import insight
from seq2seq_kit.cli import main
from seq2seq_kit.decoding import EnsembleDecoder, StepOutput
from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.decoders import vocabulary_decoder
from seq2seq_kit.model.networks import EncoderDecoder
from seq2seq_kit.seq2seq import Seq2Seq

SOURCES = ["ab", "baab", "", "abbb"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two fresh runs of different sizes on the same texts, so with equal vocabularies."""
    folder = tmp_path_factory.mktemp("members")
    write_texts(folder)
    sizes = [{"units": 8, "embedding_dim": 6}, {"units": 12, "embedding_dim": 4}]
    sizes[1] |= {"decoder_layers": 2}
    return [
        untrained_run(
            folder,
            f"run{seed}",
            seed,
            model=size | {"init_scale": 0.8},
            decoding={"beam_size": 1, "max_length": 4},
        ).path
        for seed, size in enumerate(sizes, start=1)
    ]


@pytest.fixture(scope="module")
def ensemble(runs: list[Path]) -> Seq2Seq:
    return Seq2Seq.load(runs)


@pytest.fixture(scope="module")
def members(runs: list[Path]) -> list[Seq2Seq]:
    return [Seq2Seq.load(run) for run in runs]


def step_log_probs(model: Seq2Seq, source: str, target_ids: list[int]) -> np.ndarray:
    """The log-probability of every token at each step, float64 `(steps, vocab_size)`."""
    network: Any = model.model
    source_ids = [*model.source_tokenizer.encode([source])[0], 3]
    token_ids, states, memory = network.start(tf.constant([source_ids]))
    rows = []
    for token in target_ids:
        output = network.step(token_ids, states, memory)
        logits = output.logits.numpy()[0].astype(np.float64)
        rows.append(logits - np.log(np.exp(logits).sum()))
        token_ids, states = tf.constant([token]), output.state
    return np.array(rows)


def combined(members: list[Seq2Seq], source: str, target_ids: list[int]) -> float:
    """The formula of the documentation, by hand: the normalized geometric mean at each step."""
    of_members = [step_log_probs(member, source, target_ids) for member in members]
    product = np.exp(np.mean(of_members, axis=0))
    probabilities = product / product.sum(axis=1, keepdims=True)
    chosen = probabilities[np.arange(len(target_ids)), target_ids]
    return float(np.log(chosen).sum())


def test_the_score_is_the_geometric_mean_of_the_members_at_each_step(
    members: list[Seq2Seq], ensemble: Seq2Seq
) -> None:
    for source, target in (("ab", "xyz"), ("abb", "yzx")):
        ids = [*ensemble.tokenizer.encode([target])[0], 3]
        (score,) = ensemble.score([source], [target])
        assert score.log_prob == pytest.approx(combined(members, source, ids), abs=1e-5)


def test_a_search_uses_the_combined_probabilities(
    members: list[Seq2Seq], ensemble: Seq2Seq
) -> None:
    found = ensemble.hypotheses(SOURCES, beam_size=3)
    for source, (best, *_) in zip(SOURCES, found, strict=True):
        ids = list(best.token_ids)
        expected = combined(members, source, [*ids, 3] if best.is_cut else ids) if source else 0.0
        assert best.log_prob == pytest.approx(expected, abs=1e-5)


def test_a_search_of_scripted_decoders_finds_the_best_product() -> None:
    # p(token | last token) of two decoders over pad, unk, BOS, EOS and two letters.
    tables = np.random.default_rng(3).normal(size=(2, 6, 6)).astype(np.float32)
    tables[:, :, :3] = -100.0

    def decoder(table: np.ndarray) -> StepDecoder:
        return StepDecoder(lambda ids, state, _: StepOutput(tf.gather(table, ids), state))

    found = beam_search(
        EnsembleDecoder([decoder(tables[0]), decoder(tables[1])]).step,
        tf.constant([2]),
        ((), ()),
        memory=((), ()),
        beam_size=20,
        max_length=3,
        length_penalty=0.0,
    )
    product = np.exp(tables.astype(np.float64).mean(axis=0))
    log_p = np.log(product / product.sum(axis=1, keepdims=True))

    def log_prob(ids: tuple[int, ...]) -> float:
        return float(sum(log_p[a, b] for a, b in itertools.pairwise([2, *ids, 3])))

    every = [ids for n in range(4) for ids in itertools.product((4, 5), repeat=n)]
    best = max(every, key=log_prob)
    assert tuple(found.token_ids[0, 0, : len(best)].numpy()) == best
    assert float(found.log_probs[0, 0]) == pytest.approx(log_prob(best), abs=1e-5)


def test_a_model_twice_has_its_own_logits_bit_for_bit(members: list[Seq2Seq]) -> None:
    network: Any = members[1].model
    token_ids, states, memory = network.start(tf.constant([[4, 5, 3]]))
    decoder = vocabulary_decoder(network)
    alone = decoder.step(token_ids, states, memory)
    twice = EnsembleDecoder([decoder] * 2).step(token_ids, (states,) * 2, (memory,) * 2)
    np.testing.assert_array_equal(twice.logits, alone.logits)
    np.testing.assert_array_equal(twice.attention, alone.attention)


def test_an_output_depends_on_nothing_but_its_line(ensemble: Seq2Seq) -> None:
    together = list(ensemble.hypotheses([*SOURCES, "babab", "a"], beam_size=3))
    assert together[3:4] == list(ensemble.hypotheses([SOURCES[3]], beam_size=3))


def test_models_with_other_vocabularies_are_refused(runs: list[Path], tmp_path: Path) -> None:
    write_texts(tmp_path)
    tokenizer = {"type": "bpe", "vocab_size": 12, "byte_fallback": False}
    other = untrained_run(tmp_path, tokenizer=tokenizer).path
    with pytest.raises(InputError, match=r"must have the same vocabularies.*tokenizer\.model"):
        Seq2Seq.load([runs[0], other])


def test_a_language_model_is_refused(tmp_path: Path) -> None:
    untrained_writer(tmp_path)
    with pytest.raises(InputError, match="is a language model"):
        Seq2Seq.load([tmp_path / "run", tmp_path / "run"])


def test_an_empty_list_is_refused_and_a_list_of_one_is_that_run(runs: list[Path]) -> None:
    with pytest.raises(InputError, match="one or more runs"):
        Seq2Seq.load([])
    assert isinstance(Seq2Seq.load(runs[:1]).model, EncoderDecoder)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda model, path: model.export(path / "export"), "cannot be exported"),
        (lambda model, _: model.copy(), "cannot be changed"),
        (lambda model, _: insight.Aligner(model), "Received: an ensemble"),
        (lambda model, _: model.generate(["ab"], shortlist=True), "has no shortlist"),
        (lambda model, _: model.read("ab"), "Only a language model"),
    ],
)
def test_what_an_ensemble_cannot_do_is_refused(
    ensemble: Seq2Seq, use: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        use(ensemble, tmp_path)


@pytest.fixture
def loaded(backwards: Backwards, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the commands gave to `Seq2Seq.load`; the stand-in writes each input backwards."""
    paths: list[Any] = []

    def load(path: Any) -> Backwards:
        paths.append(path)
        return backwards

    monkeypatch.setattr(seq2seq_kit.Seq2Seq, "load", load)
    return paths


@pytest.mark.usefixtures("answers")
def test_the_commands_take_several_runs(
    loaded: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        run.mkdir()
    text = tmp_path / "text"
    text.write_text("ab\n", encoding="utf-8")
    names = list(map(str, runs))
    assert main(["generate", *names, str(text)]) == 0
    assert main(["generate", *names, "--prompt", "ab"]) == 0
    assert capsys.readouterr().out == "ba\nba\n"
    files = ["--source", str(text)]
    assert main(["score", *names, *files, "--target", str(text)]) == 0
    assert main(["evaluate", *names, *files, "--reference", str(text)]) == 0
    assert list(map(list, loaded)) == [runs] * 4
    assert main(["generate", names[0], str(text)]) == 0
    assert loaded[-1] == runs[0]


@pytest.mark.usefixtures("loaded")
def test_generate_names_an_argument_that_is_neither_run_nor_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, missing = str(tmp_path), str(tmp_path / "none")
    assert main(["generate", run, missing, run]) == 2
    assert "There is no run" in capsys.readouterr().err
    # With one run, the second argument is the input, as always.
    assert main(["generate", run, missing]) == 2
    assert missing in capsys.readouterr().err
    export = tmp_path / "export"
    export.mkdir()
    (export / "saved_model.pb").write_bytes(b"")
    assert main(["generate", run, str(export), "--prompt", "ab"]) == 2
    assert "An ensemble is of run folders" in capsys.readouterr().err
