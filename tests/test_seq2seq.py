"""The class that notebooks use, on the two trained runs."""

import copy
import gzip
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from conftest import TrainedRun, reversal

from seq2seq_kit import fitting
from seq2seq_kit.cli import main
from seq2seq_kit.config import load_config
from seq2seq_kit.errors import InputError, RunError, TrainingInterrupted
from seq2seq_kit.inference.evaluation import compare_texts
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.tokens.proto import ModelProto
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.training import start
from seq2seq_kit.training.records import read_metrics
from seq2seq_kit.training.run_folder import RunFolder

WORDS = ["abc", "deed", "", "b", "aaaa", "edcb"]


def weights_of(model: Seq2Seq) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.model.trainable_variables]


def assert_same_weights(found: Seq2Seq, expected: Seq2Seq) -> None:
    for one, other in zip(weights_of(found), weights_of(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def copied_run(translation_run: TrainedRun, tmp_path: Path) -> Path:
    """A run folder that a test may damage."""
    return Path(shutil.copytree(translation_run.path, tmp_path / "copy"))


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"num_hypotheses": 3}])
def test_a_loaded_run_answers_as_the_fitted_one(
    translation_run: TrainedRun, options: dict[str, int]
) -> None:
    loaded = Seq2Seq.load(translation_run.path)
    found = list(loaded.hypotheses(WORDS, **options))
    assert found == list(translation_run.fitted.hypotheses(WORDS, **options))
    assert loaded.score(WORDS, WORDS) == translation_run.fitted.score(WORDS, WORDS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda it: it.generate(["abc"], beem_size=3), "`beem_size` .* Did you mean `beam_size`"),
        (lambda it: it.generate(["abc"], ecko=True), "`ecko` .* Did you mean `echo`"),
        (
            lambda it: next(it.hypotheses(["abc"], num_hypothesis=3)),
            "Did you mean `num_hypotheses`",
        ),
        (lambda it: it.score(["a"], ["a"], batchsize=3), "Did you mean `batch_size`"),
        (lambda it: it.score(["a"], ["a"], batch_size=0), "`batch_size` must be a whole number"),
        (lambda it: it.score(["a"], ["a"], batch_size=10**12), "`batch_size` must be a whole"),
        (lambda it: it.evaluate(["a"], [["a"]], tokenise="zh"), "Did you mean `tokenize`"),
        (lambda it: it.evaluate(["a"], [["a"]], tokenize="ja"), "`tokenize` must be one of 13a"),
        (lambda it: it.export("served", beamsize=1), "Did you mean `beam_size`"),
        (lambda it: it.load("run", cache=True), "`cache` is an unknown option of `load`"),
        (lambda it: it.fit({}, epocs=3), "Did you mean `training.epochs`.* `overrides="),
        (lambda it: it.fit({}, rundir="x"), "Did you mean `run_dir`"),
        (lambda it: it.fit({}, beam_size=3), "Did you mean `decoding.beam_size`"),
        (lambda it: it.fit({}, overrides="training.epochs=3"), "`overrides` must be a list"),
    ],
)
def test_an_unknown_option_is_refused_with_a_suggestion(
    translation_run: TrainedRun, call: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(translation_run.fitted)


def test_outputs_that_were_cut_are_counted(
    translation_run: TrainedRun, continuation_run: TrainedRun
) -> None:
    references = [[word] for word in WORDS]
    for beam_size in (1, 3):
        options = {"beam_size": beam_size, "max_length": 1}
        found = list(translation_run.fitted.hypotheses(WORDS, **options))
        num_cut = sum(best.is_cut for (best,) in found)
        # The output for an empty word has no token at all.
        ends = [best.token_ids[-1] == 3 for (best,) in found if best.token_ids]
        assert num_cut == ends.count(False) > 0
        scores = translation_run.fitted.evaluate(WORDS, references, **options)
        assert scores.cut_outputs == num_cut
    # The usual end of a continuation.
    assert continuation_run.fitted.evaluate(WORDS, references, max_length=1).cut_outputs == 0


def test_generate_gives_one_output_and_points_to_hypotheses_for_more(
    translation_run: TrainedRun,
) -> None:
    message = "`num_hypotheses` is an option of `hypotheses`"
    with pytest.raises(InputError, match=message):
        translation_run.fitted.generate(["abc"], num_hypotheses=3)
    with pytest.raises(InputError, match=message):
        translation_run.fitted.evaluate(["abc"], [["cba"]], num_hypotheses=3)


def test_generate_without_texts_and_a_flag_of_the_command_line_are_explained(
    translation_run: TrainedRun,
) -> None:
    with pytest.raises(InputError, match="Expected texts, such as"):
        translation_run.fitted.generate()
    assert translation_run.fitted.generate([]) == []
    with pytest.raises(InputError, match="Use sample=False, beam_size=1"):
        translation_run.fitted.generate(["abc"], greedy=True)
    with pytest.raises(InputError, match="Expected a text or a state"):
        translation_run.fitted.stream()


def test_a_loaded_run_is_as_it_was_left(translation_run: TrainedRun) -> None:
    loaded, fitted = Seq2Seq.load(translation_run.path), translation_run.fitted
    assert loaded.config == fitted.config
    assert loaded.history == fitted.history
    assert loaded.results == fitted.results
    assert loaded.tokenizer.fingerprint == fitted.tokenizer.fingerprint
    assert isinstance(loaded.model, keras.Model)
    assert_same_weights(loaded, fitted)


def test_a_run_may_be_moved_and_needs_none_of_its_data(
    copied_run: Path, translation_run: TrainedRun, tmp_path: Path
) -> None:
    values = yaml.safe_load((copied_run / "config.yaml").read_text())
    values["data"]["train"][0]["tsv"] = values["data"]["validation"][0]["tsv"] = "/gone.tsv"
    (copied_run / "config.yaml").write_text(yaml.safe_dump(values, explicit_end=True))
    for name in ("last.npz", "metrics.jsonl", "results.json"):
        (copied_run / name).unlink()
    moved = copied_run.rename(tmp_path / "moved")
    assert Seq2Seq.load(moved).generate(WORDS) == translation_run.fitted.generate(WORDS)


def test_both_tasks_answer_each_text_in_order(
    translation_run: TrainedRun, continuation_run: TrainedRun
) -> None:
    for fitted, texts in ((translation_run.fitted, WORDS), (continuation_run.fitted, ["one", ""])):
        best = [hypotheses[0].text for hypotheses in fitted.hypotheses(texts)]
        assert fitted.generate(texts) == best
        separator = "\t" if fitted.config.task == "translation" else ""
        echoed = [text + separator + answer for text, answer in zip(texts, best, strict=True)]
        assert fitted.generate(texts, echo=True) == echoed
        assert fitted.generate([]) == []


def test_a_single_string_is_refused(translation_run: TrainedRun) -> None:
    with pytest.raises(InputError, match=r"Received a text: use \['abc'\]"):
        translation_run.fitted.generate("abc")


def test_evaluation_compares_generated_texts(translation_run: TrainedRun) -> None:
    fitted, references = translation_run.fitted, [[word[::-1], "x"] for word in WORDS]
    found = fitted.evaluate(WORDS, references, beam_size=1, tokenize="char")
    outputs = fitted.generate(WORDS, beam_size=1)
    assert found == compare_texts(outputs, references, tokenize="char")


def test_texts_of_running_text_end_with_a_newline(continuation_run: TrainedRun) -> None:
    fitted = continuation_run.fitted
    (score,) = fitted.score([""], ["one two"])
    (newline,) = fitted.tokenizer.encode(["\n"])
    ids = [*fitted.tokenizer.encode(["one two"])[0], newline[-1]]
    assert score.num_tokens == len(ids)
    (again,) = fitted.scorer.score_ids([[]], [ids])
    assert again == score


def test_a_model_adapted_to_a_text_has_learned_it_and_the_first_stays_as_it_was(
    continuation_run: TrainedRun,
) -> None:
    fitted = continuation_run.fitted
    lines = ["one two and three"] * 60
    before = fitted.score_text(lines)
    adapted = fitted.adapted(lines, rate=0.003)
    assert fitted.score_text(lines) == before
    assert adapted.score_text(lines)[-1].log_prob > 0.5 * before[-1].log_prob
    assert adapted.generate(["one two"]) != fitted.generate(["one two"])


def test_options_of_an_adaptation_need_adapt(continuation_run: TrainedRun) -> None:
    with pytest.raises(InputError, match=r"need adapt=True\. Received: rate"):
        continuation_run.fitted.score_text(["one"], rate=0.1)
    with pytest.raises(InputError, match=r"`rat` is an unknown option .* Did you mean `rate`"):
        continuation_run.fitted.adapted(["one"], rat=0.1)
    with pytest.raises(InputError, match="`decay` must be less than 1"):
        continuation_run.fitted.adapted(["one"], decay=1.0)


def test_seeds_and_clear_session_change_no_answer(
    translation_run: TrainedRun, translation_config: dict[str, Any], tmp_path: Path
) -> None:
    fitted = translation_run.fitted
    before = (list(fitted.hypotheses(WORDS)), fitted.score(WORDS, WORDS))
    keras.utils.set_random_seed(7)
    keras.backend.clear_session()
    assert (list(fitted.hypotheses(WORDS)), fitted.score(WORDS, WORDS)) == before
    translation_config["training"] |= {"max_steps": 2}
    second = Seq2Seq.fit(translation_config, run_dir=tmp_path / "second")
    tf.random.set_seed(1)
    keras.backend.clear_session()
    assert len(second.generate(WORDS)) == len(WORDS)
    assert (list(fitted.hypotheses(WORDS)), fitted.score(WORDS, WORDS)) == before


def test_ctrl_c_in_a_process_and_resumption_in_another_change_nothing(
    translation_run: TrainedRun, translation_config: dict[str, Any], tmp_path: Path
) -> None:
    script = """
import json, sys
from seq2seq_kit.startup import load_tensorflow
load_tensorflow()
from seq2seq_kit.errors import TrainingInterrupted
from seq2seq_kit.seq2seq import Seq2Seq
try:
    Seq2Seq.fit(json.loads(sys.argv[1]), run_dir=sys.argv[2])
except TrainingInterrupted as error:
    sys.exit(f"interrupted: {error.run_dir}")
"""
    run = tmp_path / "run"
    reporting = translation_config | {"training": translation_config["training"] | {"report": True}}
    process = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(reporting), run],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert f"interrupted: {run}" in process.communicate(timeout=120)[1]
    assert 1 <= len((run / "metrics.jsonl").read_text().splitlines()) < 10
    assert "was interrupted and can be resumed" in (run / "report.html").read_text("utf-8")
    resumed = Seq2Seq.fit(translation_config, run_dir=run, resume=True)
    assert_same_weights(resumed, translation_run.fitted)
    losses = [
        [record["val_loss"] for record in one.history] for one in (resumed, translation_run.fitted)
    ]
    assert losses[0] == losses[1]


def test_values_chosen_from_the_data_are_logged_kept_and_resumed(
    translation_config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    del translation_config["tokenizer"]
    del translation_config["training"]["batch_size"]
    translation_config["training"]["max_steps"] = 2
    caplog.set_level("INFO")
    run = tmp_path / "run"
    fitted = Seq2Seq.fit(translation_config, run_dir=run)
    assert "tokenizer.type char, tokenizer.vocab_size 266: lines of one word" in caplog.text
    assert load_config(run / "config.yaml") == fitted.config
    assert fitted.config.tokenizer.type == "char"
    assert fitted.config.model.units == 32  # given
    caplog.clear()
    translation_config["training"]["max_steps"] = 3
    resumed = Seq2Seq.fit(translation_config, run_dir=run, resume=True)
    assert "Chosen" not in caplog.text
    assert resumed.config.tokenizer == fitted.config.tokenizer
    assert resumed.results["steps"] == 3


def test_advice_on_a_run_that_was_cut_short_is_logged_and_shown_by_info(
    translation_config: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = []

    class Noting(Seq2Seq):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append((len(self.history), self.results["steps"]))

    translation_config["training"]["max_steps"] = 2
    fitted = Noting.fit(translation_config, run_dir=tmp_path / "run")
    assert made == [(1, 2)], "it is made once, when everything is known"
    assert fitted.advice()[0] == (
        "Training ended (2 steps are done) before the validation loss had settled: raise "
        "training.max_steps and resume with --resume."
    )
    assert [record.getMessage() for record in caplog.records][-2:] == [
        f"Advice: {line}" for line in fitted.advice()
    ]
    assert main(["info", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.endswith(
        "".join(f"Advice: {line}\n" for line in fitted.advice())
    )


def test_a_run_knows_the_perplexity_of_guessing_and_is_not_advised_on_bleu_that_decides_nothing(
    translation_run: TrainedRun,
) -> None:
    assert not any(advice.startswith("BLEU") for advice in translation_run.fitted.advice())
    assert 4 < translation_run.fitted.results["guessing_perplexity"] < 7  # five letters and EOS


def test_a_folder_that_holds_a_run_is_not_trained_into(
    translation_run: TrainedRun, translation_config: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"holds a run already\. Resume it .*another folder"):
        Seq2Seq.fit(translation_config, run_dir=translation_run.path)


def test_nothing_to_resume_is_an_error(translation_config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Nothing to resume"):
        Seq2Seq.fit(translation_config, run_dir=tmp_path, resume=True)


def test_a_run_is_not_resumed_under_another_model(
    copied_run: Path, translation_config: dict[str, Any]
) -> None:
    translation_config["model"]["units"] = 16
    translation_config["tokenizer"]["vocab_size"] = 15
    translation_config["training"] |= {"learning_rate": 0.02, "max_steps": 500}
    with pytest.raises(InputError) as caught:
        Seq2Seq.fit(translation_config, run_dir=copied_run, resume=True)
    assert str(caught.value).splitlines()[1:-1] == [
        "  model.units: 32 then, 16 now",
        "  tokenizer.vocab_size: 16 then, 15 now",
        "  training.learning_rate: 0.01 then, 0.02 now",
    ]


def test_a_run_is_not_resumed_on_other_texts(
    copied_run: Path, translation_config: dict[str, Any], tmp_path: Path
) -> None:
    # The same path, settings and number of lines, and one letter changed.
    path = Path(translation_config["data"]["train"]["tsv"])
    before = path.read_text()
    path.write_text(before.replace("a", "b", 1))
    try:
        with pytest.raises(InputError, match=r"data\.train\.tsv: .*train\.tsv has other contents"):
            Seq2Seq.fit(translation_config, run_dir=copied_run, resume=True)
    finally:
        path.write_text(before)
    # Another config's file: both are named.
    (tmp_path / "other.tsv").write_text(before.replace("a", "b", 1))
    translation_config["data"]["train"]["tsv"] = str(tmp_path / "other.tsv")
    with pytest.raises(InputError) as caught:
        Seq2Seq.fit(translation_config, run_dir=copied_run, resume=True)
    (line,) = str(caught.value).splitlines()[1:-1]
    assert line == (
        f"  data.train.tsv: {path} then, {tmp_path / 'other.tsv'} with other contents now"
    )


def test_a_run_that_moved_with_its_data_resumes_as_if_it_had_not(
    translation_run: TrainedRun, translation_files: Path, tmp_path: Path
) -> None:
    config = copy.deepcopy(translation_run.fitted.config.model_dump(mode="json"))
    names = {"train": "data/train.tsv", "validation": "data/dev.tsv"}
    config["data"] |= {"root": ".", **names}
    before, after = tmp_path / "before", tmp_path / "elsewhere" / "after"
    shutil.copytree(translation_files, before / "data")
    (before / "my.yaml").write_text(yaml.safe_dump(config))
    Seq2Seq.fit(before / "my.yaml", run_dir=before / "runs" / "my", overrides=["training.epochs=2"])
    after.parent.mkdir()
    before.rename(after)
    # The same texts, packed; and the config is the run's own, which finds its data.
    train = after / "data" / "train.tsv"
    train.write_bytes(gzip.compress(train.read_bytes()))
    (after / "my.yaml").unlink()
    resumed = Seq2Seq.fit(
        after / "runs" / "my" / "config.yaml",
        run_dir=after / "runs" / "my",
        overrides=["training.epochs=10"],
        resume=True,
    )
    assert_same_weights(resumed, translation_run.fitted)


def test_a_run_with_a_ready_tokenizer_resumes_with_the_same_one_anywhere(
    translation_run: TrainedRun, translation_config: dict[str, Any], tmp_path: Path
) -> None:
    ready = tmp_path / "ready.model"
    # As SentencePiece writes one: it says nothing of a normalization.
    trained = translation_run.fitted.tokenizer.model_proto
    ready.write_bytes(trained.replace(b"seq2seq_kit/nfc", b"identity-------"))
    translation_config["tokenizer"] = {"model": str(ready)}
    translation_config["training"]["max_steps"] = 1
    Seq2Seq.fit(translation_config, run_dir=tmp_path / "run")
    translation_config["training"]["max_steps"] = 2
    translation_config["tokenizer"] = {"model": str(ready.rename(tmp_path / "moved.model"))}
    Seq2Seq.fit(translation_config, run_dir=tmp_path / "run", resume=True)
    Tokenizer.train(["abcde"], type="char", vocab_size=16, byte_fallback=False).save(
        tmp_path / "moved.model"
    )
    with pytest.raises(InputError, match=r"another tokenizer than .*moved\.model"):
        Seq2Seq.fit(translation_config, run_dir=tmp_path / "run", resume=True)


def test_a_second_process_is_refused_at_once_and_reading_needs_no_lock(
    copied_run: Path, translation_config: dict[str, Any], translation_run: TrainedRun
) -> None:
    with RunFolder(copied_run).locked():
        with pytest.raises(InputError, match=r"Another process \(PID \d+\) is using the run"):
            Seq2Seq.fit(translation_config, run_dir=copied_run, resume=True)
        loaded = Seq2Seq.load(copied_run)
    assert loaded.generate(WORDS) == translation_run.fitted.generate(WORDS)


@pytest.mark.parametrize("name", ["best.npz", "shared.model", "config.yaml"])
def test_files_of_two_runs_are_not_mixed(
    copied_run: Path, continuation_run: TrainedRun, name: str
) -> None:
    shutil.copy(continuation_run.path / name, copied_run / name)
    with pytest.raises(RunError, match=r"of (another|different) run"):
        Seq2Seq.load(copied_run)


def test_a_missing_or_damaged_shortlist_is_learnt_again(
    copied_run: Path, translation_config: dict[str, Any], translation_run: TrainedRun
) -> None:
    content = (copied_run / "shortlist.npz").read_bytes()
    (copied_run / "shortlist.npz").unlink()
    assert Seq2Seq.load(copied_run).generate(WORDS) == translation_run.fitted.generate(WORDS)
    (copied_run / "shortlist.npz").write_bytes(content[:-1])
    with pytest.raises(RunError, match=r"shortlist\.npz.*`s2s fit --resume` learns it again"):
        Seq2Seq.load(copied_run)
    Seq2Seq.fit(translation_config, run_dir=copied_run, resume=True)
    assert (copied_run / "shortlist.npz").read_bytes() == content
    Seq2Seq.load(copied_run)


def test_a_run_says_nothing_about_where_and_by_whom_it_was_made(
    translation_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "some-user"
    shutil.copytree(translation_files, home / "texts")
    for name, value in (("HOME", home), ("USER", "some-user"), ("LOGNAME", "some-user")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(socket, "gethostname", lambda: "some-host")
    monkeypatch.setenv("S2S_CACHE_DIR", str(tmp_path / "cache"))
    # As spm_train leaves one, with the paths of its texts.
    ready = Tokenizer.train(["abcde"] * 9, type="char", vocab_size=16, byte_fallback=False)
    model = ModelProto.FromString(ready.model_proto)
    model.trainer.input.append("/home/some-user/train.txt")
    model.trainer.model_prefix = "/home/some-user/ready"
    (home / "ready.model").write_bytes(model.SerializeToString())
    config = reversal(home / "texts")
    config["tokenizer"] = {"model": str(home / "ready.model")}
    config["training"] |= {"max_steps": 2, "tensorboard": True, "report": True}
    before = os.umask(0)
    try:
        for run in (home / "runs" / "my", tmp_path / "scratch" / "my"):
            Seq2Seq.fit(config, run_dir=run)
            loaded = load_config(run / "config.yaml")
            assert loaded.data.train[0].tsv == Path(os.path.realpath(home / "texts" / "train.tsv"))
    finally:
        os.umask(before)
    secrets = [str(tmp_path), tmp_path.name, "some-user", "some-host", "/home"]
    folders = [home / "runs", tmp_path / "scratch", tmp_path / "cache"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    for path in files:
        for secret in secrets:
            assert secret.encode() not in path.read_bytes(), (path, secret)
            assert secret not in path.name
    assert len([path for path in files if path.parent.name == "logs"]) == 2
    for path in (tmp_path / "cache").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_a_finished_run_is_resumed_with_a_higher_limit(
    copied_run: Path, translation_config: dict[str, Any]
) -> None:
    steps = len(read_steps(copied_run))
    translation_config["training"] |= {"epochs": 99, "max_steps": 234}
    resumed = Seq2Seq.fit(translation_config, run_dir=copied_run, resume=True)
    assert resumed.results["steps"] == 234
    assert len(resumed.history) == steps + 1
    assert load_config(copied_run / "config.yaml").training.max_steps == 234


def read_steps(run: Path) -> list[float]:
    from seq2seq_kit.training.run_folder import RunFolder

    return [record["step"] for record in read_metrics(RunFolder(run))]


def test_a_config_that_lost_its_end_is_refused(
    copied_run: Path, translation_config: dict[str, Any]
) -> None:
    # Each beginning of it is a config too, with defaults for what is lost.
    lines = (copied_run / "config.yaml").read_text().splitlines(keepends=True)
    (copied_run / "config.yaml").write_text("".join(lines[: lines.index("decoding:\n")]))
    assert load_config(copied_run / "config.yaml").task == "translation"
    with pytest.raises(RunError, match=r"cannot be used\. .*config\.yaml does not end with"):
        Seq2Seq.load(copied_run)
    with pytest.raises(RunError, match=r"cannot be used\. .*config\.yaml does not end with"):
        Seq2Seq.fit(translation_config, run_dir=copied_run, resume=True)


def test_a_missing_tokenizer_is_called_by_its_name(copied_run: Path) -> None:
    (copied_run / "shared.model").unlink()
    with pytest.raises(RunError, match=r"shared\.model"):
        Seq2Seq.load(copied_run)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        Seq2Seq.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["best.npz", "config.yaml", "shared.model"])
def test_a_damaged_run_is_refused(copied_run: Path, name: str) -> None:
    content = (copied_run / name).read_bytes()
    (copied_run / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=rf"damaged.*(\n|.)*{name}|{name} is damaged") as caught:
        Seq2Seq.load(copied_run)
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("name", ["metrics.jsonl", "results.json"])
def test_a_model_works_without_its_past(
    copied_run: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = (copied_run / name).read_bytes()
    (copied_run / name).write_bytes(content[: len(content) // 2])
    assert Seq2Seq.load(copied_run).generate(["ab"])
    assert name in caplog.text


@pytest.mark.parametrize("lost", ["removed", "emptied"])
def test_a_lost_history_is_warned_of(
    copied_run: Path, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = copied_run / "metrics.jsonl"
    if lost == "removed":
        metrics.unlink()
    else:
        metrics.write_bytes(b"")
    assert Seq2Seq.load(copied_run).generate(["ab"])
    assert "metrics.jsonl is missing or empty" in caplog.text


@pytest.mark.parametrize("content", [None, "[]", '{"bleu": 3'])
def test_info_shows_a_run_that_has_no_results(
    copied_run: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied_run / "results.json").unlink()
    if content is not None:
        (copied_run / "results.json").write_text(content)
    assert main(["info", str(copied_run)]) == 0
    captured = capsys.readouterr()
    assert "No results: training has not ended, or results.json is missing.\n" in captured.err
    assert ("results.json is damaged" in captured.err) == (content is not None)


def test_a_run_folder_that_cannot_be_made_is_named(
    translation_config: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/run cannot be made \(Not a directory\)"):
        Seq2Seq.fit(translation_config, run_dir=tmp_path / "file" / "run")


def test_the_log_names_the_held_out_lines_and_the_run_folder(
    translation_config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    del translation_config["data"]["validation"]
    translation_config["training"]["max_steps"] = 2
    caplog.set_level("INFO")
    Seq2Seq.fit(translation_config, run_dir=tmp_path / "run")
    # 720 words, a tenth at most.
    assert "Held out for validation: 72 lines" in caplog.text
    assert str(tmp_path / "run") in caplog.text


def test_a_missing_text_is_reported_under_the_name_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("data: {train: gone.tsv}")
    with pytest.raises(InputError, match=r"my\.yaml: data\.train: .*gone\.tsv"):
        Seq2Seq.fit(tmp_path / "my.yaml", overrides=["seed=2"], run_dir=tmp_path / "run")
    with pytest.raises(InputError, match=r"my\.yaml with its overrides: seeds"):
        Seq2Seq.fit(tmp_path / "my.yaml", overrides=["seeds=2"], run_dir=tmp_path / "run")


def test_faults_are_found_before_anything_is_written(
    translation_config: dict[str, Any], tmp_path: Path
) -> None:
    translation_config["data"]["train"]["tsv"] = str(tmp_path / "gone.tsv")
    with pytest.raises(InputError, match=r"gone\.tsv"):
        Seq2Seq.fit(translation_config, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_written_nowhere_but_in_its_folder(translation_run: TrainedRun) -> None:
    names = {path.name for path in translation_run.path.iterdir()}
    expected = {"config.yaml", "data.json", "shared.model", "best.npz", "last.npz"}
    assert names == expected | {
        *("metrics.jsonl", "results.json", "report.html", "shortlist.npz", ".lock")
    }


def test_validation_scores_compare_with_the_texts_of_the_file(
    translation_config: dict[str, Any], tmp_path: Path, hashed: Counter[str]
) -> None:
    # The tokenizer lacks "xyz", which its ids would give back as one character.
    lines = [
        *read_lines(translation_config),
        "xab\tbaxyz",
        "ab  cd\tdc  ba",
        "\t",
        "d\tdxyzxyz",
        "xyzxyz\te",
    ]
    (tmp_path / "dev.tsv").write_text("\n".join(lines), encoding="utf-8")
    train = Path(translation_config["data"]["train"]["tsv"]).read_bytes()
    (tmp_path / "train.gz").write_bytes(gzip.compress(train))
    names = {"train": "train.gz", "validation": "dev.tsv"}
    for name, file in names.items():
        translation_config["data"][name]["tsv"] = str(tmp_path / file)
    translation_config["training"] |= {
        "max_steps": 3,
        "early_stopping": {"metric": "chrf"},
        "validation_samples": 2,
        "tensorboard": True,
    }
    fitted = Seq2Seq.fit(translation_config, run_dir=tmp_path / "run")
    pairs = [line.split("\t") for line in lines if line != "\t"]
    sources, targets = zip(*pairs, strict=True)
    expected = fitted.evaluate(sources, [[target] for target in targets], beam_size=1)
    (record,) = fitted.history
    assert record["val_chrf"] == pytest.approx(expected.chrf)
    assert record["val_bleu"] == pytest.approx(expected.bleu)
    assert any((tmp_path / "run" / "logs").iterdir())
    assert hashed == {str(tmp_path / file): 1 for file in names.values()}


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the contents of each file were hashed."""
    counts: Counter[str] = Counter()

    def count(file: Any, name: str) -> Any:
        counts[file.name] += 1
        return file_digest(file, name)

    file_digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", count)
    return counts


def read_lines(config: dict[str, Any]) -> list[str]:
    return Path(config["data"]["validation"]["tsv"]).read_text(encoding="utf-8").splitlines()


def test_a_config_that_is_not_a_run_s_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("a\tb\n" * 40, encoding="utf-8")
    config = tmp_path / "config.yaml"
    config.write_text("# mine\ndata: {train: pairs.tsv}\n", encoding="utf-8")
    with pytest.raises(InputError, match="would be overwritten"):
        Seq2Seq.fit(config, run_dir=tmp_path)
    assert config.read_text(encoding="utf-8").startswith("# mine")


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send this signal")
def test_a_signal_outside_of_the_loop_says_whether_there_is_something_to_resume(
    translation_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the signal was not raised")

    translation_config["training"] |= {"epochs": 1}
    for stage in ("build_tokenizers", "encode_data", "learn_shortlist", "_final_results"):
        place = fitting if stage == "_final_results" else start
        with monkeypatch.context() as patch:
            patch.setattr(place, stage, interrupt)
            with pytest.raises(TrainingInterrupted, match="SIGTERM") as caught:
                Seq2Seq.fit(translation_config, run_dir=tmp_path / "run")
        assert caught.value.signal == signal.SIGTERM
        assert caught.value.can_resume == (stage == "_final_results")
    resumed = Seq2Seq.fit(translation_config, run_dir=tmp_path / "run", resume=True)
    assert resumed.results["steps"] == 23
    assert "validation_bleu" in resumed.results


def test_a_start_that_fails_on_its_data_leaves_nothing(
    translation_config: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "one.tsv").write_text("ab\tba\n", encoding="utf-8")
    translation_config["data"] = {"train": str(tmp_path / "one.tsv")}
    translation_config["tokenizer"] = {}
    with pytest.raises(InputError):
        Seq2Seq.fit(translation_config, run_dir=tmp_path / "runs" / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["one.tsv"]


@pytest.mark.parametrize("chief", [True, False])
def test_a_chief_that_cannot_fill_the_run_folder_ends_all_workers(
    translation_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chief: bool,
) -> None:
    asked = []

    def mean_over_workers(_strategy: Any, value: float) -> float:
        asked.append(value)
        return 0.5

    monkeypatch.setattr(start, "is_chief", lambda _strategy: chief)
    monkeypatch.setattr(start, "mean_over_workers", mean_over_workers)
    monkeypatch.setattr(RunFolder, "check_unlocked", lambda _run: None)
    message = "Another process" if chief else "The chief of the workers cannot fill"
    with RunFolder(tmp_path / "run").locked(), pytest.raises(InputError, match=message):
        Seq2Seq.fit(translation_config, run_dir=tmp_path / "run")
    assert asked == [float(chief)]
