"""Exports for LiteRT: what their runner answers, against the Python API."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from small_config import NUMBERS
from untrained import untrained_model

from seq2seq_kit.cli import main
from seq2seq_kit.decoding import BeamSearch, ForbiddenTokens, SearchInputs, StepOutput
from seq2seq_kit.decoding import run as run_search
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.export import build, litert, litert_runner, replay
from seq2seq_kit.export.folder import read_probes, write_digests
from seq2seq_kit.export.litert_runner import Model, RunnerError, fingerprint, rewriter
from seq2seq_kit.export.litert_runner import main as run_main
from seq2seq_kit.export.replay import replay_probes
from seq2seq_kit.export.verify import Outputs, Probes
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.text.normalization import TextRules

SOURCES = ["ab", "", "abbabb", " b a ", "a春b", "bbbbbbbbbbbb", "a\x00a", "abab"]
PROMPTS = ["", "0", "01 ", "0101", "01\n00 ", "0 1", "春01", "110100 ", "00000000", " "]

DEEP = {
    "units": 12,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "attention": "multiplicative",
    "attention_layer": "first",
    "layer_normalization": True,
    "tie_embeddings": False,
}


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Seq2Seq:
    """A model of every part that an encoder-decoder may have, with a vocabulary for each side."""
    letters = {"type": "char", "vocab_size": 40, "byte_fallback": False, "normalization": "nfc"}
    tokenizer = {"source": letters, "target": letters}
    return untrained_model(tmp_path_factory.mktemp("deep"), model=DEEP, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Seq2Seq:
    """A language model whose pieces have several characters, so that prompts are healed."""
    folder = tmp_path_factory.mktemp("writer")
    return untrained_model(
        folder,
        task="continuation",
        data={"root": str(folder), "train": {"text": "text.txt"}, "window": 8},
        tokenizer={
            "type": "bpe",
            "vocab_size": 320,
            "normalization": "nfd",
            "lossless": False,
        },
        model={"decoder_layers": 2, "inner_units": 10},
    )


@pytest.fixture(scope="module")
def translator_folder(translator: Seq2Seq, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("litert") / "translator"
    translator.export(folder, export_format="litert")
    return folder


@pytest.fixture(scope="module")
def writer_folder(writer: Seq2Seq, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("litert") / "writer"
    writer.export(folder, export_format="litert", sample=False)
    return folder


def assert_same(
    model: Seq2Seq, folder: Path, texts: list[str], *, num_hypotheses: int = 1, **options: Any
) -> None:
    """Checks that the runner finds what the Python API finds: ids, texts, scores."""
    runner = Model(folder)
    expected = list(model.hypotheses(texts, num_hypotheses=num_hypotheses, **options))
    for text, hypotheses in zip(texts, expected, strict=True):
        found = runner.hypotheses(text, num_hypotheses=num_hypotheses, **options)
        assert [one.text for one in found] == [one.text for one in hypotheses], text
        for one, other in zip(found, hypotheses, strict=True):
            assert one.token_ids == other.token_ids
            assert one.is_cut == other.is_cut
            assert (one.log_prob, one.score) == pytest.approx(
                (other.log_prob, other.score), abs=1e-4
            )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "beam_size": 3,
            "num_hypotheses": 3,
            "no_repeat_ngram": 2,
            "repetition_penalty": 1.5,
            "min_length": 4,
            "length_penalty": 0.4,
        },
    ],
)
def test_runner_translates_as_the_package_does(
    translator: Seq2Seq, translator_folder: Path, options: dict[str, Any]
) -> None:
    assert_same(translator, translator_folder, SOURCES, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"sample": False, "max_length": 40},
        {"beam_size": 3, "max_loop_characters": 4, "max_length": 20, "num_hypotheses": 2},
        {"sample": True, "num_hypotheses": 3, "seed": 5, "temperature": 1.3, "top_p": 0.8},
    ],
)
def test_runner_continues_prompts_as_the_package_does(
    writer: Seq2Seq, writer_folder: Path, options: dict[str, Any]
) -> None:
    # 300 tokens and more are read in two parts.
    long = "".join(random.Random(1).choices(NUMBERS, k=200))
    assert_same(writer, writer_folder, [*PROMPTS, long], **options)


@pytest.mark.parametrize("size", [0, 3, 5, 12, 16, 17, 33, 64, 65, 128, 129, 1000])
def test_fingerprint_is_that_of_tensorflow(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert fingerprint(data) % 2**62 == tf.strings.to_hash_bucket_fast(data, 2**62).numpy()


@pytest.mark.parametrize("normalization", ["none", "nfc", "nfd", "nfkc"])
def test_steps_change_texts_as_the_rules_do(normalization: Any) -> None:
    rules = TextRules(normalization, escapes=True)
    # As they are read back from JSON.
    steps = json.loads(json.dumps([rules.prepare_steps(), rules.restore_steps()]))
    prepare, restore = map(rewriter, steps)
    odd = "e\u0301 ﬁ\u00a0\u200bx\u2581\x10\r\r\n \u0897 \U000105c9 \U0001ccd6 각\uac01\r"
    for text in (odd, odd.upper(), "plain", "a\rb\r"):
        assert prepare(text) == rules.prepare(text)
        assert restore(prepare(text).replace(" ", "\u2581")) == rules.restore(
            rules.prepare(text).replace(" ", "\u2581")
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortlist": True}, "`shortlist` cannot be exported for LiteRT.*--no-shortlist"),
        ({"banned_texts": ["a"]}, "`banned_texts` cannot be exported"),
        ({"precision": "bfloat16"}, "`precision` cannot be exported"),
        ({"export_format": "onnx"}, "`export_format` must be one of saved_model, litert"),
    ],
)
def test_export_refuses_what_the_runner_lacks(
    translator: Seq2Seq, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        translator.export(tmp_path / "export", **({"export_format": "litert"} | options))
    assert list(tmp_path.iterdir()) == []


def test_export_without_litert_says_what_to_install(
    translator: Seq2Seq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"seq2seq_kit\[litert\]"):
        translator.export(tmp_path / "export", export_format="litert")


def test_export_that_the_runner_cannot_load_is_not_kept(
    translator: Seq2Seq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "make_probes", lambda *_: Probes(["ab"], Outputs([""], [0.0])))
    monkeypatch.setattr(litert, "_convert", lambda *_: b"no model")
    with pytest.raises(RunError, match="was not kept"):
        translator.export(tmp_path / "export", export_format="litert")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(
    ("change", "is_exact"), [("text", True), ("score", True), ("score", False)]
)
def test_verification_refuses_other_answers(
    translator: Seq2Seq, translator_folder: Path, change: str, is_exact: bool
) -> None:
    best = next(translator.hypotheses(["ab"]))[0]
    texts = [best.text + "x" if change == "text" else best.text]
    scores = [best.score * 1.5 - 0.5 if change == "score" else best.score]
    with pytest.raises(RunError, match=r"The runner answers 'ab' with .* so the export was not"):
        litert._verify(translator_folder, Probes(["ab"], Outputs(texts, scores)), is_exact=is_exact)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "`beam_size` must be a whole number and at least 1"),
        ({"beam_size": True}, "`beam_size` must be a whole number"),
        ({"beamsize": 2}, "`beamsize` is an unknown option. Known: beam_size"),
        ({"top_p": 0.0, "sample": True}, "`top_p` must be a number and at most 1.0 and more than"),
        ({"seed": 3}, "`seed` has an effect only when sampling"),
        ({"min_length": 9}, "`min_length` must be at most `max_length`"),
        ({"beam_size": 2, "sample": True}, "`beam_size` must be 1 where `sample` is true"),
        ({"num_hypotheses": 4}, "`num_hypotheses` must be between 1 and `beam_size`"),
    ],
)
def test_runner_refuses_wrong_options(
    translator_folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RunnerError, match=message):
        Model(translator_folder).hypotheses("ab", **options)


@pytest.fixture
def copied(translator_folder: Path, tmp_path: Path) -> Iterator[Path]:
    yield shutil.copytree(translator_folder, tmp_path / "copied")


@pytest.mark.parametrize("name", ["encoder.tflite", "decoder.tflite", "target.model"])
def test_runner_refuses_a_damaged_file(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(RunnerError, match=f"{name} is damaged"):
        Model(copied)
    (copied / name).unlink()
    with pytest.raises(RunnerError, match="missing or damaged"):
        Model(copied)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format_version": 99}, "has the format version 99; this runner reads 1"),
        ({"format": "saved_model"}, "is no export for LiteRT"),
    ],
)
def test_runner_refuses_another_format(copied: Path, changed: dict[str, Any], message: str) -> None:
    path = copied / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(RunnerError, match=message):
        Model(copied)


def run(folder: Path, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-B", folder / "run.py", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        env={},
    )


def test_run_py_answers_standard_input_line_by_line(
    translator: Seq2Seq, translator_folder: Path
) -> None:
    lines = ["\ufeffab", "abb\r", "", "bb"]
    ended = run(translator_folder, stdin="\n".join(lines).encode())
    expected = translator.generate(["ab", "abb", "", "bb"])
    assert ended.stdout.decode().splitlines() == expected
    assert (ended.stderr, ended.returncode) == (b"", 0)


@pytest.fixture
def run_in_process(
    translator_folder: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> Any:
    """Runs the command line on a text in this process; returns exit code, output and errors."""

    def run(text: bytes, *arguments: str) -> tuple[int, str, str]:
        path = tmp_path / "in.txt"
        path.write_bytes(text)
        code = run_main([str(path), *arguments], translator_folder)
        output, errors = capfdbinary.readouterr()
        return code, output.decode(), errors.decode()

    return run


def test_over_long_lines_are_refused_truncated_or_marked(
    run_in_process: Any, translator: Seq2Seq
) -> None:
    text = b"ab\n" + b"b" * 101 + b"\n"
    code, output, errors = run_in_process(text)
    assert (code, output.count("\n")) == (2, 1)
    assert "Line 2 has 102 tokens; the model takes at most 100." in errors
    truncated = run_in_process(text, "--long-lines", "truncate")
    assert truncated[1].splitlines() == translator.generate(["ab", "b" * 101], truncate=True)
    marked = run_in_process(text, "--long-lines", "mark", "--scores")
    assert marked[1].splitlines()[1] == "2\t1\t-inf\t\tended"


def test_command_line_reports_bad_input(run_in_process: Any) -> None:
    code, _, errors = run_in_process(b"ab\nf\xfcr\n")
    assert (code, errors.count("\n")) == (2, 1)
    assert "line 2: expected UTF-8, but byte 2 of the line is not" in errors
    assert run_in_process(b"") == (0, "", "")
    code, _, errors = run_in_process(b"a\n", "--beam-size", "0")
    assert (code, "`beam_size` must be" in errors) == (2, True)
    with pytest.raises(SystemExit, match="2"):
        run_in_process(b"a\n", "--beamsize", "2")


def test_command_line_writes_n_best(run_in_process: Any, translator_folder: Path) -> None:
    best = {"num_hypotheses": 2, "beam_size": 3}
    _, output, _ = run_in_process(b"ab\nba\n", "--num-hypotheses", "2", "--beam-size", "3")
    rows = [line.split("\t") for line in output.splitlines()]
    found = [Model(translator_folder).hypotheses(text, **best) for text in ("ab", "ba")]
    assert [row[:2] for row in rows] == [["1", "1"], ["1", "2"], ["2", "1"], ["2", "2"]]
    assert [row[3] for row in rows] == [one.text for best in found for one in best]


def test_verify_replays_the_probes_of_an_export(
    translator_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(translator_folder)]) == 0
    assert capsys.readouterr().out.endswith("answers that they had when it was exported.\n")
    answers = read_probes(translator_folder)["answers"]
    assert (len(answers["sample"]["outputs"]), len(answers["generate"]["outputs"]) > 8) == (3, True)
    path = Path(shutil.copytree(translator_folder, tmp_path / "changed"))
    content = bytearray((path / "decoder.tflite").read_bytes())
    content[-200] ^= 64
    (path / "decoder.tflite").write_bytes(content)
    with pytest.raises(RunError, match=r"decoder\.tflite is damaged"):
        replay_probes(path)
    (path / "decoder.tflite").unlink()
    with pytest.raises(RunError, match=r"decoder\.tflite is missing"):
        replay_probes(path)
    # A runner of somebody else is not run.
    (path / "decoder.tflite").write_bytes((translator_folder / "decoder.tflite").read_bytes())
    (path / "run.py").write_text("raise SystemExit", encoding="utf-8")
    with pytest.raises(RunError, match=r"run\.py is damaged"):
        replay_probes(path)


@pytest.mark.parametrize("name", ["generate", "sample"])
def test_verify_names_an_answer_that_is_another_one(
    translator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = Path(shutil.copytree(translator_folder, tmp_path / "changed"))
    probes = read_probes(path)
    probes["answers"][name]["outputs"][2] += "x"
    (path / "probes.json").write_text(json.dumps(probes), encoding="utf-8")
    write_digests(path)
    monkeypatch.setattr(replay, "ask_runner", lambda *_: read_probes(translator_folder)["answers"])
    with pytest.raises(RunError, match=f"`{name}` gives other `outputs`"):
        replay_probes(path)


def test_s2s_describes_an_export_and_says_how_to_run_it(
    translator_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(translator_folder)]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "litert"
    assert main(["generate", str(translator_folder), "--prompt", "ab"]) == 2
    assert f"Run it with `python {translator_folder / 'run.py'}`" in capsys.readouterr().err


def test_s2s_export_passes_the_format_on(
    translator: Seq2Seq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}
    monkeypatch.setattr(Seq2Seq, "load", lambda run: translator)
    monkeypatch.setattr(translator, "export", lambda path, **given: asked.update(given))
    assert main(["export", "de-en", str(tmp_path / "out"), "--format", "litert"]) == 0
    assert asked["export_format"] == "litert"


def test_export_has_built_in_operations_only(translator_folder: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    for name in ("encoder.tflite", "decoder.tflite"):
        content = (translator_folder / name).read_bytes()
        codes = schema.ModelT.InitFromPackedBuf(content, 0).operatorCodes
        assert codes and not any(code.customCode for code in codes)


def test_beam_of_the_runner_keeps_the_greedy_hypothesis(translator_folder: Path) -> None:
    runner = Model(translator_folder)
    for text in SOURCES:
        greedy = runner.hypotheses(text, beam_size=1)[0].score
        scores = [one.score for one in runner.hypotheses(text, beam_size=3, num_hypotheses=3)]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] >= greedy - 1e-5
        assert not np.isnan(scores).any()


@pytest.mark.parametrize(("weights", "most"), [("float16", 0.52), ("int8", 0.3)])
def test_rounded_weights_take_less_room_and_give_nearly_the_same(weights: str, most: float) -> None:
    kernel = tf.constant(np.random.default_rng(1).normal(size=(128, 128)), tf.float32)
    inputs = np.random.default_rng(2).normal(size=(1, 128)).astype(np.float32)
    specs = [tf.TensorSpec([1, 128], tf.float32, name="inputs")]
    exact = litert._convert(lambda inputs: [inputs @ kernel], specs, "float32")
    rounded = litert._convert(lambda inputs: [inputs @ kernel], specs, weights)
    assert len(rounded) < most * len(exact)
    interpreter = Interpreter(model_content=rounded)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, inputs @ kernel, atol=0.5)


STEPS, TOKENS = 7, 8


class Tables:
    """Logits that depend on the time and the last token of a line: `(lines, time, last, next)`."""

    def __init__(self, tables: np.ndarray) -> None:
        self.tables = tables

    def step(self, token_ids: Any, state: Any, memory: Any = None) -> Any:
        """A step of the package, or, without a memory, of the runner for the only line."""
        if memory is None:
            time = state[0][0, 0]
            return self.tables[0, time, token_ids], [state[0] + 1]
        rows = tf.size(token_ids) // tf.shape(memory)[0]
        places = tf.stack([tf.repeat(tf.range(tf.shape(memory)[0]), rows), state, token_ids], 1)
        return StepOutput(tf.gather_nd(memory, places), state + 1)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("closes", [True, False])
def test_beam_search_ends_where_that_of_the_package_does(
    length_penalty: float, closes: bool
) -> None:
    lines, beam = 60, 3
    generator = np.random.default_rng(1)
    tables = generator.normal(scale=2.0, size=(lines, STEPS + 1, TOKENS, TOKENS)).astype("float32")
    # Some lines are likely to end at once, others late.
    tables[..., 3] += np.linspace(-4, 4, lines, dtype="float32")[:, None, None]
    search = BeamSearch(
        decoder=Tables(tables),
        processors=[ForbiddenTokens((0, 1, 2))],
        max_length=STEPS,
        length_penalty=length_penalty,
        close_at_limit=closes,
        beam_size=beam,
        num_hypotheses=2,
    )
    start = tf.fill([lines], 2), tf.zeros([lines], tf.int32), tf.constant(tables)
    expected = tf.function(lambda: run_search(search, SearchInputs(*start)), autograph=False)()
    options = litert_runner.Options(
        beam, length_penalty, STEPS, 0, False, 1.0, 0, 1.0, 0.0, 1, 1.0, 0, 0
    )
    for line in range(lines):
        processors = litert_runner.Processors(options, list, beam)
        state = [np.zeros((1, 1), int)]
        stepper = litert_runner.Stepper(Tables(tables[line : line + 1]), state, beam, processors)
        found = litert_runner.BeamSearch(
            stepper, 2, options, close_at_limit=closes, num_hypotheses=2
        ).run()
        for place, one in enumerate(found):
            length = int(expected.lengths[line, place])
            assert one.token_ids == expected.token_ids[line, place, :length].numpy().tolist()
            assert one.score == pytest.approx(float(expected.scores[line, place]), abs=1e-5)
            assert one.is_cut == bool(expected.is_cut[line, place])
