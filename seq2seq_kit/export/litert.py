"""Exports a model for LiteRT: two models of built-in operations, and a runner without TensorFlow.

`encoder.tflite` reads an input, `decoder.tflite` writes an output token by token. The runner, a
copy of `litert_runner.py`, tokenizes and searches. All of them take one input at a time.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from seq2seq_kit.atomic import explain_write_errors, write_folder
from seq2seq_kit.config import Config, DecodingConfig
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.export.folder import as_json, check_unused, write_digests, write_probes
from seq2seq_kit.export.verify import Probes
from seq2seq_kit.inference.inputs import InputEncoder
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.special_ids import EOS_ID
from seq2seq_kit.startup import quiet_stderr

_FORMAT_VERSION = 1

_RUNNER, _RUNNER_NAME = Path(__file__).with_name("litert_runner.py"), "run.py"

Answers = dict[str, dict[str, list[Any]]]
"""Outputs and their scores for "generate" and "sample", a value for each input."""

# Options of a search that change no output, and that the runner does without.
_WITHOUT_EFFECT = ("batch_size", "threads")

_HINTS = {
    "shortlist": " (--no-shortlist)",
    "precision": " (--precision float32)",
}

_SCORE_TOLERANCE = 1e-3

# Of scores with rounded weights, relative. Probes are no sentences, so that the likeliest outputs
# are nearly equally likely, and a small change leads to another one: up to 0.16 has been seen.
_ROUNDING_TOLERANCE = 0.25

# What a small machine would do, in a process that knows nothing of this package.
_FRESH_PROCESS = """
import json, sys
sys.path.insert(0, sys.argv[2])
import run
model = run.Model(sys.argv[1])
texts = json.load(sys.stdin)
found = {
    "generate": [model.hypotheses(text)[0] for text in texts],
    "sample": [
        model.hypotheses(text, beam_size=1, sample=True, seed=1)[0] for text in texts[:3]
    ],
}
assert "tensorflow" not in sys.modules, "the runner imports TensorFlow"
answers = {
    name: {"outputs": [one.text for one in some], "scores": [one.score for one in some]}
    for name, some in found.items()
}
json.dump(answers, sys.stdout)
"""

_CARD = """\
# {title} model for LiteRT

Made by seq2seq_kit {version}. It needs no TensorFlow:

```bash
pip install ai-edge-litert sentencepiece numpy
python run.py < in.txt > out.txt   # a line in, a line out; `python run.py --help` lists the options
```

In Python, with this folder on the path:

```python
from run import Model

model = Model("path/to/this/folder")
model.generate("...")
```

{limit}

`encoder.tflite` reads an input, `decoder.tflite` takes a token and a state and returns logits and
the next state; both have built-in operations only. `metadata.json` describes them, `digests.json`
has the SHA-256 of each file but this one.
"""


def _check_installed() -> None:
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise InputError(
            "An export for LiteRT is tried out, which needs ai-edge-litert. Install it with "
            "`pip install 'seq2seq_kit[litert]'`."
        )


def check_litert(decoding: DecodingConfig) -> None:
    """Raises InputError if a search cannot be exported for LiteRT, or LiteRT is not installed."""
    _check_installed()
    for name, field in DecodingConfig.model_fields.items():
        value = getattr(decoding, name)
        if name in (*_runner_options(), *_WITHOUT_EFFECT) or value == field.default:
            continue
        raise InputError(
            f"`{name}` cannot be exported for LiteRT, whose runner does without it. Received: "
            f"{value!r}. Export with {field.default!r}{_HINTS.get(name, '')}."
        )


def _runner_options() -> tuple[str, ...]:
    """Returns the options that the runner has. It imports LiteRT, which may not be installed."""
    from seq2seq_kit.export.litert_runner import Options

    return Options._fields


def export_litert(
    model: EncoderDecoder | LanguageModel,
    path: Path,
    inputs: InputEncoder,
    tokenizers: Tokenizers,
    config: Config,
    *,
    decoding: DecodingConfig,
    weights: str,
    metadata: Mapping[str, Any],
    probes: Probes,
) -> None:
    """Writes an export for LiteRT, whole or not at all, once its runner has answered as expected.

    Args:
        model: A network that uses no cuDNN.
        path: A folder that does not exist yet, or is empty.
        inputs: Encodes the inputs in Python; says how.
        tokenizers: The tokenizers of both sides.
        config: The config of the run.
        decoding: The options of the search, the runner's defaults.
        weights: "float32"; "float16", half the size; or "int8": a third of the size, and two to
            three times as fast, since LiteRT multiplies them as they are. It rounds the other
            factor of each product too, for each row anew.
        metadata: The description of an export.
        probes: Inputs to try, with the expected outputs.

    Raises:
        InputError: If `path` is in use.
        RunError: If the runner answers otherwise, or the disk is full; nothing is left at `path`.
    """
    check_unused(path)
    with explain_write_errors(path, "The export"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with write_folder(path, "The export") as building:
        reader, writer = _convert_network(model, weights)
        (building / "encoder.tflite").write_bytes(reader)
        (building / "decoder.tflite").write_bytes(writer)
        rules = _save_tokenizers(building, tokenizers)
        described = {
            **metadata,
            "format": "litert",
            "format_version": _FORMAT_VERSION,
            "weights": weights,
            "tokenizers": {side: metadata["tokenizers"][side] | rules[side] for side in rules},
            "inputs": _describe_inputs(inputs, config),
            "options": _describe_options(decoding),
        }
        (building / "metadata.json").write_text(as_json(described), encoding="utf-8")
        (building / "README.md").write_text(_card(described), encoding="utf-8")
        shutil.copyfile(_RUNNER, building / _RUNNER_NAME)
        write_digests(building)
        answers = _verify(building, probes, is_exact=weights == "float32")
        write_probes(building, probes.lines, answers)
        write_digests(building)
        building.chmod(0o755)  # Whatever the umask: it may be run by another user.


def _convert_network(model: EncoderDecoder | LanguageModel, weights: str) -> tuple[bytes, bytes]:
    """Returns the models that read an input and that write a token, as LiteRT's flatbuffers."""
    token_ids = tf.TensorSpec([1, None], tf.int32, name="token_ids")
    if isinstance(model, LanguageModel):
        states, memory = model.lstm.zero_state(1), None

        def read(token_ids: tf.Tensor, *state: tf.Tensor) -> list[tf.Tensor]:
            before = tf.nest.pack_sequence_as(states, state)
            return tf.nest.flatten(model.read(token_ids, before).states)

        reader = _convert(read, [token_ids, *_specs("state", states, rows=1)], weights)
    else:
        memory, states = model.encode(tf.constant([[EOS_ID]]))

        def encode(token_ids: tf.Tensor) -> list[tf.Tensor]:
            memory, states = model.encode(token_ids)
            return [*tf.nest.flatten(states), memory.values, memory.keys]

        reader = _convert(encode, [token_ids], weights)
    number = len(tf.nest.flatten(states))

    def step(token_ids: tf.Tensor, *parts: tf.Tensor) -> list[tf.Tensor]:
        state, read = tf.nest.pack_sequence_as(states, parts[:number]), None
        if memory is not None:
            values, keys = parts[number:]
            # A single source has no padding.
            read = memory._replace(
                values=values, keys=keys, mask=tf.ones([1, tf.shape(keys)[1]], tf.bool)
            )
        output = model.step(token_ids, state, read)
        return [output.logits, *tf.nest.flatten(output.state)]

    specs = [tf.TensorSpec([None], tf.int32, name="token_ids"), *_specs("state", states)]
    if memory is not None:
        for place, part in enumerate((memory.values, memory.keys)):
            specs.append(tf.TensorSpec([1, None, part.shape[-1]], name=f"memory_{place:02}"))
    return reader, _convert(step, specs, weights)


def _specs(name: str, nest: Any, rows: int | None = None) -> list[tf.TensorSpec]:
    """Returns the type of each part of a state, named in their order."""
    return [
        tf.TensorSpec([rows, part.shape[-1]], part.dtype, name=f"{name}_{place:02}")
        for place, part in enumerate(tf.nest.flatten(nest))
    ]


def _convert(
    function: Callable[..., list[tf.Tensor]], specs: Sequence[tf.TensorSpec], weights: str
) -> bytes:
    """Returns a function as a LiteRT model; its inputs have the names of `specs`."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    traced = tf.function(function, input_signature=specs, autograph=False)
    with quiet_stderr():
        # As constants, weights are transposed and joined once, here.
        frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if weights != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if weights == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())


def _save_tokenizers(folder: Path, tokenizers: Tokenizers) -> dict[str, Any]:
    """Writes the tokenizers, one of both sides only once; returns how to use each."""
    is_shared = tokenizers.source is tokenizers.target
    described = {}
    for side, tokenizer in tokenizers._asdict().items():
        name = "shared.model" if is_shared else f"{side}.model"
        (folder / name).write_bytes(tokenizer.model_proto)
        rules = tokenizer.text_rules
        described[side] = {
            "model": name,
            "prepare": rules.prepare_steps(),
            "restore": rules.restore_steps(),
        }
    return described


def _describe_inputs(inputs: InputEncoder, config: Config) -> dict[str, Any]:
    """Returns how inputs are encoded and read; the fields are those of `InputEncoder`."""
    return {
        "max_length": inputs.max_length,
        "reads_prompt": inputs.reads_prompt,
        "keep_end": inputs.keep_end,
        "answers_empty": inputs.answers_empty,
        "marks_spaces": inputs.marks_spaces,
        "continues": config.task == "continuation",
        "heals": config.joins_texts,
    }


def _describe_options(decoding: DecodingConfig) -> dict[str, Any]:
    """Returns the JSON schema of each option that the runner has, with the run's default."""
    sampling = DecodingConfig.sampling_options()
    schemas = DecodingConfig.model_json_schema()["properties"]
    return {
        name: schema
        | {
            "default": getattr(decoding, name),
            "description": " ".join(schema["description"].split()),
            "only_when_sampling": name in sampling,
        }
        for name, schema in schemas.items()
        if name in _runner_options()
    }


def _card(metadata: Mapping[str, Any]) -> str:
    limit = metadata["inputs"]["max_length"]
    return _CARD.format(
        title=metadata["task"].capitalize(),
        version=metadata["versions"]["seq2seq_kit"],
        limit="An input may have any length."
        if limit is None
        else f"An input may have {limit} tokens of its vocabulary.",
    )


def ask_runner(folder: Path, lines: Sequence[str], runner: Path = _RUNNER) -> Answers:
    """Returns the answers of an export, and samples of the first ones, in a fresh process.

    Args:
        folder: The export.
        lines: The inputs.
        runner: The program that runs it: that of this package, since one in a folder may be
            anybody's.

    Raises:
        InputError: If LiteRT is not installed.
        RunError: If the process fails.
    """
    _check_installed()
    with tempfile.TemporaryDirectory() as name:
        shutil.copyfile(runner, Path(name, _RUNNER_NAME))
        ended = subprocess.run(
            [sys.executable, "-B", "-c", _FRESH_PROCESS, folder, name],
            input=json.dumps(list(lines)),
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    if ended.returncode:
        raise RunError(
            f"A fresh process could not run the export. It said: "
            f"{ended.stderr.strip().rpartition(chr(10))[2]}"
        )
    answers: Answers = json.loads(ended.stdout)
    return answers


def _verify(folder: Path, probes: Probes, *, is_exact: bool) -> Answers:
    """Returns the answers of the runner in the export, in a fresh process.

    Args:
        folder: The export.
        probes: Inputs with the expected outputs.
        is_exact: Whether texts must be equal. Rounded weights may lead to other texts, whose
            scores are near.

    Raises:
        RunError: If they are other than expected.
    """
    try:
        answers = ask_runner(folder, probes.lines, folder / _RUNNER_NAME)
    except RunError as error:
        raise RunError(f"{error} So it was not kept.") from error
    best = answers["generate"]
    rows = zip(probes.lines, best["outputs"], best["scores"], *probes.expected, strict=True)
    for probe, text, score, expected_text, expected_score in rows:
        tolerance = _SCORE_TOLERANCE
        if not is_exact:
            tolerance = _ROUNDING_TOLERANCE * (1 + abs(expected_score))
        differs = score != expected_score and abs(score - expected_score) > tolerance
        if differs or (is_exact and text != expected_text):
            raise RunError(
                f"The runner answers {probe!r} with {text!r} ({score:.4f}), the run with "
                f"{expected_text!r} ({expected_score:.4f}), so the export was not kept. Please "
                f"report this with the versions that `s2s info` shows."
            )
    return answers
