"""Exports: what a process without this package answers, against the Python API."""

import itertools
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TrainedRun
from reference import generator_of, input_encoder_of

from seq2seq_kit import seq2seq
from seq2seq_kit.cli import main
from seq2seq_kit.config import DecodingConfig, ModelConfig
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.export import saved_model, signatures, verify
from seq2seq_kit.export.folder import read_metadata, write_metadata
from seq2seq_kit.export.module import ExportModule
from seq2seq_kit.export.saved_model import (
    ExportedModel,
    export_model,
)
from seq2seq_kit.export.verify import FreshAnswers, Outputs, Probes, probe_lines
from seq2seq_kit.inference import parallel
from seq2seq_kit.model.build import build_model
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.special_ids import EOS_ID
from seq2seq_kit.tokens.tokenizer import Tokenizer

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


def test_an_export_samples_and_scores_as_the_python_api(
    translation_export: Path, translation_run: TrainedRun
) -> None:
    exported, lines = ExportedModel(translation_export), ["abc", "", "e"]
    for seed in (3, 4):
        expected = translation_run.fitted.hypotheses(
            lines, sample=True, seed=seed, num_hypotheses=3
        )
        found = exported.sample(lines, num_samples=3, seed=seed)
        assert texts_of(found) == texts_of(expected)
        # The first ones do not depend on how many there are.
        assert texts_of(exported.sample(["e"], seed=seed)) == [texts_of(found)[2][:1]]
    targets = ["cba", "a", "春"]
    for one, other in zip(
        exported.score(lines, targets), translation_run.fitted.score(lines, targets), strict=True
    ):
        assert one.num_tokens == other.num_tokens
        np.testing.assert_allclose(one.log_prob, other.log_prob, rtol=1e-4)


def texts_of(found: Any) -> list[list[str]]:
    return [[one.text for one in line] for line in found]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "`seed` must be"),
        ({"seed": 2**32}, "`seed` must be"),
        ({"num_samples": 0}, "number of samples must be a whole number from 1 to 10000"),
    ],
)
def test_wrong_options_of_samples_are_refused(
    translation_export: Path, options: dict[str, int], message: str
) -> None:
    exported = ExportedModel(translation_export)
    with pytest.raises(InputError, match=message):
        exported.sample(["a"], **options)
    sample = tf.saved_model.load(str(translation_export)).signatures["sample"]
    tensors = {"seed": tf.constant(options.get("seed", 1), tf.int64)}
    tensors["num_samples"] = tf.constant(options.get("num_samples", 1))
    (name,) = options
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}` must be from"):
        sample(inputs=tf.constant(["a"]), **tensors)


def test_sources_and_targets_of_different_numbers_are_refused(translation_export: Path) -> None:
    exported = ExportedModel(translation_export)
    with pytest.raises(InputError, match="1 sources, 2 targets"):
        exported.score(["a"], ["b", "c"])
    with pytest.raises(InputError, match="Line 4 is not UTF-8"):
        exported.score(["a", "b"], ["b", "\ud800"], first_line=3)
    score = tf.saved_model.load(str(translation_export)).signatures["score"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="one target for each input"):
        score(inputs=tf.constant(["a"]), targets=tf.constant(["b", "c"]))


@pytest.fixture
def without_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that compare an export with the Python API themselves."""
    monkeypatch.setattr(saved_model, "verify_export", lambda *_: FreshAnswers([], "", {}))


@pytest.mark.usefixtures("without_verification")
def test_the_command_fixes_the_search_with_its_options(
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


def test_parts_of_many_lines_are_searched_by_any_number_of_threads(
    translation_export: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exported = ExportedModel(translation_export)
    lines = ["abc"[: n % 4] + "de" * (n % 3) for n in range(11)]
    expected = list(exported.hypotheses(lines))
    monkeypatch.setattr(signatures, "_LINES_AT_ONCE", 2)
    monkeypatch.setattr(parallel, "available_cores", lambda: 3)
    assert list(exported.hypotheses(lines)) == expected
    found = exported.hypotheses([*lines, "\ud800"], first_line=5)
    assert list(itertools.islice(found, 10)) == expected[:10]
    with pytest.raises(InputError, match="Line 16 is not UTF-8"):
        next(found)
    (tmp_path / "in").write_text("".join(f"{line}\n" for line in lines))
    files = [str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert main(["generate", str(translation_export), *files, "--threads", "2"]) == 0
    assert (tmp_path / "out").read_text().splitlines() == [best.text for (best,) in expected]


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
    held = sum(math.prod(shape) for name, shape in variables if name.startswith("weights"))
    # Except the tied embeddings, which are looked up and, transposed, multiplied by.
    assert held == model.count_params() + math.prod(model.embedding.embeddings.shape)


def test_each_side_keeps_its_own_tokenizer_when_loaded(tmp_path: Path) -> None:
    source = Tokenizer.train(["ab ba aab"] * 9, type="char", vocab_size=9, byte_fallback=False)
    target = Tokenizer.train(["xyz zy"] * 9, type="char", vocab_size=9, byte_fallback=False)
    config = ModelConfig(architecture="encoder_decoder", embedding_dim=8, units=16, init_scale=0.5)
    keras.utils.set_random_seed(5)
    model = build_model(config, target.vocab_size, source.vocab_size)
    no_end = tf.one_hot(EOS_ID, target.vocab_size, on_value=-9.0)
    model.output_bias.assign_add(no_end)
    generator = generator_of(
        model, source, target, defaults=DecodingConfig(beam_size=2, max_length=5)
    )
    lines = ["ab", "baba a", ""]
    module = ExportModule(
        generator.search,
        input_encoder_of(model, source),
        decoding=DecodingConfig(beam_size=2, max_length=5),
        metadata=METADATA,
    )
    expected = [best for (best,) in generator.hypotheses(lines)]
    assert set("".join(one.text for one in expected)) & set("xyz")
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    signatures = module.signatures()
    tf.saved_model.save(module.root, str(tmp_path), signatures, options)
    found = ExportedModel(tmp_path).generate(lines)
    assert found.texts == [one.text for one in expected]
    np.testing.assert_allclose(found.scores, [one.score for one in expected], atol=1e-5)


class Echo:
    """Answers each line with itself; does something else on the way.

    Args:
        also: What.
        best_score: Of the first hypothesis, which should be that of the answer, 0.
    """

    def __init__(
        self, also: Callable[[], object] = lambda: None, *, best_score: float = 0.0
    ) -> None:
        def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            also()
            return {"outputs": inputs, "scores": tf.zeros([tf.size(inputs)])}

        def n_best(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return {
                "outputs": inputs[:, tf.newaxis],
                "scores": tf.fill([tf.size(inputs), 1], best_score),
            }

        strings = [tf.TensorSpec([None], tf.string, name="inputs")]
        self.metadata = METADATA
        self.root = tf.Module()
        self._functions = {
            "serving_default": tf.function(serve, input_signature=strings),
            "n_best": tf.function(n_best, input_signature=strings),
            "describe": tf.function(lambda: {"description": tf.constant("{}")}, input_signature=[]),
        }

    def signatures(self) -> dict[str, Any]:
        return dict(self._functions)


METADATA = {
    "weights": "float32",
    "task": "continuation",
    "max_source_length": 7,
    "long_lines": "mark",
    "num_hypotheses": 2,
    "decoding": {"beam_size": 2, "max_length": 5},
    "model": {"units": 16},
    "results": {"validation_bleu": 12.5},
    "signatures": {
        "score": {"inputs": {"targets": "string (?)"}, "outputs": {"log_probs": "float32 (?)"}}
    },
    "versions": {"seq2seq_kit": "9.9"},
}


def test_an_export_that_answers_as_expected_is_kept(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    # Whatever other code has set: TensorFlow's own functions are graphs in a SavedModel.
    tf.config.run_functions_eagerly(True)
    try:
        export_model(Echo(), tmp_path / "new", Probes(["a", ""], Outputs(["a", ""], [0.0, 0.0])))
        ExportedModel(tmp_path / "new")
        assert tf.config.functions_run_eagerly()
    finally:
        tf.config.run_functions_eagerly(False)
    assert names_in(tmp_path) == ["new"]
    assert (tmp_path / "new" / "saved_model.pb").is_file()


@pytest.mark.parametrize("expected", [Outputs(["b"], [0.0]), Outputs(["a"], [0.01])])
def test_an_export_that_answers_otherwise_is_not_kept(
    tmp_path: Path, expected: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"serving_default": {"outputs": ["a"], "scores": [0.0]}}
    fresh = FreshAnswers([], "{}", answers)
    monkeypatch.setattr(verify, "ask_fresh_process", lambda *_: fresh)
    with pytest.raises(RunError, match=r"The export answers 'a' with 'a' \(0\.0000\).*not kept"):
        export_model(Echo(), tmp_path / "new", Probes(["a"], expected))
    assert names_in(tmp_path) == []


def test_an_export_that_fails_to_run_is_not_kept(tmp_path: Path) -> None:
    def fail() -> None:
        tf.debugging.Assert(tf.random.uniform([]) > 2, ["never true"])

    with pytest.raises((RunError, InputError), match=r"not kept|not loaded"):
        export_model(Echo(fail), tmp_path / "new", Probes(["a"], Outputs(["a"], [0.0])))
    assert names_in(tmp_path) == []


def test_an_export_whose_signatures_differ_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"n_best has other scores"):
        export_model(Echo(best_score=1.0), tmp_path / "new", Probes(["a"], Outputs(["a"], [0.0])))
    assert names_in(tmp_path) == []


def test_an_export_never_replaces_anything(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    for name in ("file", "folder"):
        with pytest.raises(InputError, match="new or empty folder"):
            export_model(Echo(), tmp_path / name, Probes([], Outputs([], [])))
    assert (tmp_path / "folder" / "notes.txt").exists()


def test_an_export_to_a_path_in_use_is_refused_at_once(
    translation_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded or traced")

    (tmp_path / "used.txt").touch()
    monkeypatch.setattr(seq2seq, "export_run", fail)
    with pytest.raises(InputError, match="new or empty folder"):
        translation_run.fitted.export(tmp_path)
    monkeypatch.setattr(seq2seq.Seq2Seq, "load", fail)
    for path in (tmp_path, tmp_path / "used.txt"):
        assert main(["export", str(translation_run.path), str(path)]) == 2


def test_a_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TensorFlow's words, which it raises as the class of "out of memory".
    def fill(_module: object, folder: str, *_: object, **__: object) -> None:
        (Path(folder) / "saved_model.pb").write_bytes(b"half")
        raise tf.errors.ResourceExhaustedError(
            None, None, f"{folder}/variables/variables.data; No space left on device"
        )

    monkeypatch.setattr(tf.saved_model, "save", fill)
    with pytest.raises(RunError, match=r"The export could not be written to .*/new: No space left"):
        export_model(Echo(), tmp_path / "new", Probes([], Outputs([], [])))
    assert names_in(tmp_path) == []


def test_the_card_says_what_the_metadata_says(tmp_path: Path) -> None:
    write_metadata(tmp_path, METADATA)
    assert read_metadata(tmp_path) == METADATA
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for said in (
        "# Continuation model",
        "seq2seq_kit 9.9",
        "An input has at most 7 tokens. A longer one gets an empty output",
        "An input that is not UTF-8 gets an empty output",
        "An output has at most 5 tokens.",
        "(batch, 2)",
        "- `units`: 16",
        "- `score` returns how likely each target is after its input",
        "Inputs: `targets` string (?). Outputs: `log_probs` float32 (?).",
        "- `validation_bleu`: 12.5",
    ):
        assert said in card
    assert main(["info", str(tmp_path)]) == 2  # Without a graph it is no export.


def test_the_card_of_a_language_model_has_no_limit_on_inputs(tmp_path: Path) -> None:
    write_metadata(tmp_path, METADATA | {"max_source_length": None})
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "- An input may have any number of tokens.\n" in card
    assert "None" not in card


@pytest.mark.parametrize("fault", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_file_of_an_export_is_named(
    translation_export: Path, tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [
        "saved_model.pb",
        "fingerprint.pb",
        "metadata.json",
        "probes.json",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    ]
    digests = json.loads((translation_export / "digests.json").read_text(encoding="utf-8"))
    assert sorted(digests) == sorted(names)
    for name in names:
        path = Path(shutil.copytree(translation_export, tmp_path / name.replace("/", "-")))
        content = bytearray((path / name).read_bytes())
        content[len(content) // 3] ^= 4
        match fault:
            case "flip":
                (path / name).write_bytes(content)
            case "truncate":
                (path / name).write_bytes(content[: len(content) // 2])
            case "empty":
                (path / name).write_bytes(b"")
            case "remove":
                (path / name).unlink()
        with pytest.raises((RunError, InputError), match=re.escape(Path(name).name)):
            ExportedModel(path)
        if name != "saved_model.pb":  # Without it, there is no export.
            assert main(["info", str(path)]) == 1
            assert Path(name).name in capsys.readouterr().err


def test_weights_that_are_replaced_while_they_are_loaded_are_refused(
    translation_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(translation_export, tmp_path / "export"))
    weights = path / "variables" / "variables.data-00000-of-00001"
    other = tmp_path / "other"
    other.write_bytes(bytes(weights.stat().st_size))
    real_load = tf.saved_model.load

    def load(folder: str) -> Any:
        loaded = real_load(folder)
        other.replace(weights)
        return loaded

    monkeypatch.setattr(tf.saved_model, "load", load)
    with pytest.raises(RunError, match=r"data-00000-of-00001 (was replaced|is damaged)"):
        ExportedModel(path)


def test_damaged_weights_are_named_though_tensorflow_loads_them(
    translation_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(translation_export, tmp_path / "export"))
    whole = tf.saved_model.load(str(path))
    weights = path / "variables" / "variables.data-00000-of-00001"
    weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])
    monkeypatch.setattr(tf.saved_model, "load", lambda _folder: whole)
    with pytest.raises(RunError, match=r"data-00000-of-00001 is damaged"):
        ExportedModel(path)


def test_loading_an_export_writes_nothing_to_standard_error(
    translation_export: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # By itself SentencePiece says that "precompiled_charsmap is empty".
    ExportedModel(translation_export).generate(["abc"])
    assert capfd.readouterr().err == ""


def test_a_flipped_bit_in_the_tokenizer_of_an_export_is_found(
    translation_export: Path, translation_run: TrainedRun, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(translation_export, tmp_path / "damaged"))
    content = (path / "saved_model.pb").read_bytes()
    pieces = translation_run.fitted.source_tokenizer.model_proto
    place = content.index(pieces) + pieces.index(b"\x01a")
    flipped = content[: place + 1] + b"c" + content[place + 2 :]
    (path / "saved_model.pb").write_bytes(flipped)
    with pytest.raises(RunError, match=r"saved_model\.pb is damaged"):
        ExportedModel(path)


@pytest.mark.parametrize("content", ["", "[]", '{"saved_model.pb":', "\xff"])
def test_damaged_digests_are_named(translation_export: Path, tmp_path: Path, content: str) -> None:
    path = Path(shutil.copytree(translation_export, tmp_path / "damaged"))
    (path / "digests.json").write_text(content, encoding="latin-1")
    with pytest.raises(RunError, match=r"digests\.json is damaged"):
        ExportedModel(path)


def test_the_card_may_be_edited_and_an_export_without_digests_loads(
    translation_export: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(translation_export, tmp_path / "edited"))
    (path / "README.md").write_text("Learned from nursery rhymes.", encoding="utf-8")
    (path / "digests.json").unlink()
    (path / "metadata.json").unlink()
    before = ExportedModel(translation_export)
    assert ExportedModel(path).generate(["abc"]) == before.generate(["abc"])


def test_an_export_names_no_path_user_or_machine(
    translation_export: Path, continuation_export: Path, translation_files: Path
) -> None:
    private = {
        str(translation_files),
        str(translation_export.parent),
        str(Path.cwd()),
        str(Path.home()),
        str(Path(tf.__file__).parent),
        sys.executable,
        "site-packages",
        ".py",
        "pytest",
    }
    # Shorter names stand in any file of numbers.
    names = {socket.gethostname(), os.environ.get("USER", "")}
    private |= {name for name in names if len(name) > 5}
    for export in (translation_export, continuation_export):
        for path in filter(Path.is_file, export.rglob("*")):
            content = path.read_bytes()
            assert [word for word in private if word.encode() in content] == [], path


@pytest.fixture(scope="module")
def marking_export(translation_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exports") / "marking"
    translation_run.fitted.export(path, long_lines="mark", beam_size=3)
    return path


def test_one_bad_input_does_not_cost_its_batch(
    marking_export: Path, translation_run: TrainedRun
) -> None:
    ExportedModel(marking_export)  # Imports what the graph needs.
    signatures = tf.saved_model.load(str(marking_export)).signatures
    long, invalid = b"a" * 101, b"a\xffb"
    nothing = (b"", -math.inf)
    answers = {
        text: (best.text.encode(), best.score)
        for text, (best,) in zip(
            [b"abc", b"e", b""],
            translation_run.fitted.hypotheses(["abc", "e", ""], beam_size=3),
            strict=True,
        )
    } | {long: nothing, invalid: nothing, b"a" * 5000: nothing}
    for batch in (
        [b"abc", long, b"e", invalid, b""],
        [long],
        [invalid],
        [long, invalid, b"a" * 5000],
        [],
        [b"e"],
    ):
        found = signatures["serving_default"](inputs=tf.constant(batch, tf.string))
        assert found["outputs"].numpy().tolist() == [answers[text][0] for text in batch]
        scores = [answers[text][1] for text in batch]
        np.testing.assert_allclose(found["scores"].numpy(), scores, atol=1e-4)
        best = signatures["n_best"](inputs=tf.constant(batch, tf.string))
        assert best["outputs"].shape == best["scores"].shape == (len(batch), 3)
        for text, outputs, log_probs in zip(
            batch, best["outputs"].numpy(), best["log_probs"].numpy(), strict=True
        ):
            if answers[text] == nothing:
                assert outputs.tolist() == 3 * [b""]
                assert log_probs.tolist() == 3 * [-math.inf]


def test_the_command_lists_marked_lines(
    marking_export: Path,
    translation_run: TrainedRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "in").write_text(f"abc\n{101 * 'a'}\ne\n{101 * 'b'}\n")
    assert main(["generate", str(marking_export), str(tmp_path / "in")]) == 0
    shown = capsys.readouterr()
    first, second = translation_run.fitted.generate(["abc", "e"], beam_size=3)
    assert shown.out == f"{first}\n\n{second}\n\n"
    assert "Over-long inputs, which have an empty output: 2 (line 2, 4)." in shown.err


def test_the_command_gives_the_best_few_of_an_export(
    marking_export: Path, translation_run: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for run in (marking_export, translation_run.path):
        command = ["generate", str(run), "--prompt", "abc", "--num-hypotheses", "3"]
        assert main([*command, *([] if run == marking_export else ["--beam-size", "3"])]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == 3
    assert main(["generate", str(marking_export), "--prompt", "a", "--num-hypotheses", "4"]) == 2
    assert "`num_hypotheses` must be at most 3" in capsys.readouterr().err


def test_the_command_shows_what_an_export_says_of_itself(
    marking_export: Path, translation_run: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(marking_export)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["long_lines"] == "mark"
    assert said["decoding"]["beam_size"] == said["num_hypotheses"] == 3
    assert said["max_source_length"] == 100
    assert said["model"]["parameters"] == translation_run.fitted.model.count_params()
    assert said["results"] == translation_run.fitted.results
    assert said["versions"]["tensorflow"] == tf.__version__


@pytest.mark.usefixtures("without_verification")
def test_a_truncating_export_answers_as_truncated_inputs_are(
    translation_run: TrainedRun, tmp_path: Path
) -> None:
    translation_run.fitted.export(tmp_path / "served", long_lines="truncate")
    inputs = [60 * "abe", "ab", 101 * "d"]
    exported = ExportedModel(tmp_path / "served")
    found = exported.generate(inputs)
    assert exported.truncates
    assert exported.num_truncated == 2
    assert_same(found, translation_run.fitted, inputs, truncate=True)
    # A hundred tokens: one for the space that each text begins with, and its characters.
    assert found.texts[0] == exported.generate([inputs[0][:99]]).texts[0]


def test_an_input_that_is_not_text_is_refused_by_its_place(translation_export: Path) -> None:
    exported = ExportedModel(translation_export)
    with pytest.raises(InputError, match="Line 7 is not UTF-8"):
        exported.generate(["a", "\ud800"], first_line=6)
    serve = tf.saved_model.load(str(translation_export)).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"not UTF-8 \(its place\):\] \[1\]"):
        serve(inputs=tf.constant([b"a", b"\xe6\x98", b"\xff"]))


def test_an_unknown_rule_for_long_lines_is_refused(
    translation_run: TrainedRun, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"`long_lines` must be one of error, truncate, mark"):
        translation_run.fitted.export(tmp_path / "new", long_lines="drop")


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
