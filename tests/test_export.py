"""Exports: what a process without this package answers, against the Python API."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TrainedRun

from seq2seq_kit.cli import main
from seq2seq_kit.config import DecodingConfig, ModelConfig
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.export import ExportedModel, ExportModule, Outputs, export_model, probe_lines
from seq2seq_kit.generation import Generator
from seq2seq_kit.model import build_model
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.tokenizer import Tokenizer

ODD_LINES = [
    "",
    "abc",
    " ",
    "a\0b",
    "\0",
    "春天到了。",
    "😀 e",
    "quite unknown",
    "  a   b ",
    "a\nb",
    "\u2028",
    "a\tb",
    "ddddddddd",
]
BATCHES = [[], ["ab"], ["e", "", "cab"], [*ODD_LINES, *["abcd", "e", "bb"] * 19], ODD_LINES]

CONTINUATION_SEARCH = {
    "beam_size": 2,
    "max_length": 9,
    "no_repeat_ngram": 5,
    "max_loop_characters": 4,
}

# What the README shows a server to do.
SERVER = """
import json, sys
import tensorflow as tf, tensorflow_text
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answers = []
for batch in json.load(sys.stdin):
    found = serve(inputs=tf.constant(batch, tf.string))
    texts = [text.decode() for text in found["outputs"].numpy()]
    answers.append([texts, found["scores"].numpy().tolist()])
assert not [name for name in sys.modules if name.startswith(("seq2seq_kit", "sentencepiece"))]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def translation_export(
    translation_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    # What a notebook may do at any time.
    keras.backend.clear_session()
    keras.utils.set_random_seed(5)
    path = tmp_path_factory.mktemp("exports") / "translation"
    translation_run.fitted.export(path)
    return path


@pytest.fixture(scope="module")
def continuation_export(
    continuation_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("exports") / "continuation"
    decoding = DecodingConfig(**CONTINUATION_SEARCH)
    continuation_run.fitted.export(path, decoding=decoding)
    return path


def assert_same(found: Outputs, model: Seq2Seq, lines: Sequence[str], **options: float) -> None:
    expected = [best for (best,) in model.hypotheses(lines, **options)]
    assert list(found.texts) == [best.text for best in expected]
    np.testing.assert_allclose(found.scores, [best.score for best in expected], atol=1e-4)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_process_without_the_package_answers_as_the_python_api(
    translation_export: Path, translation_run: TrainedRun, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SERVER, translation_export],
        input=json.dumps(BATCHES),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    for lines, answer in zip(BATCHES, json.loads(ended.stdout), strict=True):
        assert_same(Outputs(*answer), translation_run.fitted, lines)


def test_an_export_of_a_continuation_has_the_options_it_was_made_with(
    continuation_export: Path, continuation_run: TrainedRun
) -> None:
    prompts = ["one two", "", "seven\n", "a\0b", "春天", "six  seven\n\none"]
    found = ExportedModel(continuation_export).generate(prompts)
    assert_same(found, continuation_run.fitted, prompts, **CONTINUATION_SEARCH)
    assert ExportedModel(continuation_export).generate([]) == Outputs([], [])


def test_the_command_fixes_the_search_as_it_is_told(
    translation_run: TrainedRun, tmp_path: Path
) -> None:
    options = ["--beam-size", "1", "--max-length", "3", "--shortlist", "--precision", "bfloat16"]
    assert main(["export", str(translation_run.path), str(tmp_path / "served"), *options]) == 0
    found = ExportedModel(tmp_path / "served").generate(ODD_LINES)
    fixed = {"beam_size": 1, "max_length": 3, "shortlist": True, "precision": "bfloat16"}
    assert_same(found, translation_run.fitted, ODD_LINES, **fixed)


def test_a_loaded_export_survives_what_notebooks_do(translation_export: Path) -> None:
    exported = ExportedModel(translation_export)
    before = exported.generate(["abc"])
    keras.utils.set_random_seed(1)
    keras.backend.clear_session()
    assert exported.generate(["abc"]) == before


def test_a_line_too_long_is_refused_by_its_number(translation_export: Path) -> None:
    exported = ExportedModel(translation_export)
    with pytest.raises(InputError, match=r"Line 8 has 121 tokens; the model takes at most 100"):
        exported.generate(["a", "", 120 * "b"], first_line=6)


def test_an_export_is_for_all_to_read_and_has_its_signature(translation_export: Path) -> None:
    assert translation_export.stat().st_mode & 0o777 == 0o755
    assert names_in(translation_export.parent) == ["translation"]
    ExportedModel(translation_export)  # Imports what the graph needs.
    serve = tf.saved_model.load(str(translation_export)).signatures["serving_default"]
    _, inputs = serve.structured_input_signature
    assert inputs == {"inputs": tf.TensorSpec([None], tf.string, name="inputs")}
    outputs = {
        name: (spec.dtype, len(spec.shape)) for name, spec in serve.structured_outputs.items()
    }
    assert outputs == {"outputs": (tf.string, 1), "scores": (tf.float32, 1)}


def test_an_export_holds_each_weight_once(
    translation_run: TrainedRun, translation_export: Path
) -> None:
    model = translation_run.fitted.model
    variables = tf.train.list_variables(str(translation_export / "variables" / "variables"))
    held = sum(math.prod(shape) for name, shape in variables if name.startswith("_weights"))
    # But for the tied embeddings, which are looked up and, turned round, multiplied by.
    assert held == model.count_params() + math.prod(model.embedding.embeddings.shape)


def test_each_side_keeps_its_own_tokenizer_when_loaded(tmp_path: Path) -> None:
    source = Tokenizer.train(["ab ba aab"] * 9, type="char", vocab_size=9, byte_fallback=False)
    target = Tokenizer.train(["xyz zy"] * 9, type="char", vocab_size=9, byte_fallback=False)
    config = ModelConfig(architecture="encoder_decoder", embedding_dim=8, units=16, init_scale=0.5)
    model = build_model(config, target.vocab_size, source.vocab_size)
    no_end = tf.one_hot(Tokenizer.eos_id, target.vocab_size, on_value=-9.0)
    model.output_bias.assign_add(no_end)
    module = ExportModule(
        model,
        source,
        target,
        decoding=DecodingConfig(beam_size=2, max_length=5),
        max_source_length=20,
        continues=False,
    )
    generator = Generator(
        model,
        source,
        target,
        defaults=DecodingConfig(beam_size=2, max_length=5),
        max_source_length=20,
        keep_end=False,
    )
    lines = ["ab", "baba a", ""]
    expected = [best for (best,) in generator.hypotheses(lines)]
    assert set("".join(one.text for one in expected)) & set("xyz")
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(tmp_path), {"serving_default": module.serve}, options)
    found = ExportedModel(tmp_path).generate(lines)
    assert found.texts == [one.text for one in expected]
    np.testing.assert_allclose(found.scores, [one.score for one in expected], atol=1e-5)


class Echo(tf.Module):
    """Answers each line with itself; does something else on the way."""

    def __init__(self, also: Callable[[], object] = lambda: None) -> None:
        super().__init__()

        def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            also()
            return {"outputs": inputs, "scores": tf.zeros([tf.size(inputs)])}

        signature = [tf.TensorSpec([None], tf.string, name="inputs")]
        self.serve = tf.function(serve, input_signature=signature)


def test_an_export_that_answers_as_expected_is_kept(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    export_model(Echo(), tmp_path / "new", ["a", ""], Outputs(["a", ""], [0.0, 0.0]))
    assert names_in(tmp_path) == ["new"]
    assert (tmp_path / "new" / "saved_model.pb").is_file()


@pytest.mark.parametrize("expected", [Outputs(["b"], [0.0]), Outputs(["a"], [0.01])])
def test_an_export_that_answers_otherwise_is_not_kept(tmp_path: Path, expected: Outputs) -> None:
    with pytest.raises(RunError, match=r"The export answers 'a' with 'a' \(0\.0000\).*not kept"):
        export_model(Echo(), tmp_path / "new", ["a"], expected)
    assert names_in(tmp_path) == []


def test_an_export_that_fails_to_run_is_not_kept(tmp_path: Path) -> None:
    def fail() -> None:
        tf.debugging.Assert(tf.random.uniform([]) > 2, ["never true"])

    with pytest.raises((RunError, InputError), match=r"not kept|not loaded"):
        export_model(Echo(fail), tmp_path / "new", ["a"], Outputs(["a"], [0.0]))
    assert names_in(tmp_path) == []


def test_an_export_never_replaces_anything(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    for name in ("file", "folder"):
        with pytest.raises(InputError, match="new or empty folder"):
            export_model(Echo(), tmp_path / name, [], Outputs([], []))
    assert (tmp_path / "folder" / "notes.txt").exists()


def test_probes_have_many_lengths_and_none_too_long(translation_run: TrainedRun) -> None:
    tokenizer = translation_run.fitted.source_tokenizer
    probes = probe_lines(tokenizer, 12)
    lengths = [len(ids) for ids in tokenizer.encode(probes)]
    assert max(lengths) <= 12
    assert len(set(lengths)) >= 4
    assert {"", "a\0b", "春天到了。"} <= set(probes)


def test_without_tensorflow_text_the_error_says_where_it_exists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    with pytest.raises(InputError, match=r"need tensorflow-text, .*WSL, Colab"):
        ExportedModel(tmp_path)
