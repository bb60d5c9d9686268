"""Exports a model as a SavedModel from string to string: tokenizer, search and weights in one.

It runs wherever `tensorflow` and `tensorflow_text` are imported, without this package. It is
traced without cuDNN, so that it runs on any machine whatever machine made it.
"""

import json
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq_kit.atomic import write_folder
from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.decoding import SearchResult
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.export_safety import check_saved_model, checked_copy
from seq2seq_kit.files import user_path
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.generation import search_model
from seq2seq_kit.model import EncoderDecoder, LanguageModel
from seq2seq_kit.precision import PreparedWeights
from seq2seq_kit.shortlist import Shortlist
from seq2seq_kit.startup import quiet_stderr
from seq2seq_kit.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

# Scores are compared with those of the Python API up to this much: a GPU adds in another order.
_SCORE_TOLERANCE = 1e-3

# Followed by the place of the first such input, the limit and its length.
_TOO_LONG = "An input has more tokens than the model takes (its place, the limit, its tokens):"

# What a server would do, in a process that knows nothing of this package.
_FRESH_PROCESS = """
import json, sys
import tensorflow as tf, tensorflow_text
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
found = serve(inputs=tf.constant(json.load(open(sys.argv[2], encoding="utf-8")), tf.string))
texts = [text.decode("utf-8") for text in found["outputs"].numpy()]
json.dump([texts, found["scores"].numpy().tolist()], open(sys.argv[3], "w", encoding="utf-8"))
"""


class Outputs(NamedTuple):
    """What an export gives."""

    texts: list[str]
    """The best output of each input."""
    scores: list[float]
    """The number that the search ranked it by."""


class ExportModule(tf.Module):
    """The graph from strings to strings.

    Args:
        model: A network that uses no cuDNN.
        source_tokenizer: Encodes inputs.
        target_tokenizer: Decodes outputs.
        decoding: The options of the search, fixed in the export.
        max_source_length: Tokens of an input at most; the graph fails on a longer one.
        continues: Whether inputs are prompts, so that an empty one has a continuation.
        shortlist: What outputs are narrowed to where `decoding.shortlist` asks for it.
    """

    def __init__(
        self,
        model: EncoderDecoder | LanguageModel,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        *,
        decoding: DecodingConfig,
        max_source_length: int,
        continues: bool,
        shortlist: Shortlist | None = None,
    ) -> None:
        super().__init__()
        text = _tensorflow_text()
        prepared = PreparedWeights(keep=True)
        with quiet_stderr():
            # A loaded export finds each by its name; without one, both would be the same.
            self._encoder = text.SentencepieceTokenizer(
                model=source_tokenizer.model_proto, name="source_tokenizer"
            )
            self._decoder = self._encoder
            if target_tokenizer is not source_tokenizer:
                self._decoder = text.SentencepieceTokenizer(
                    model=target_tokenizer.model_proto, name="target_tokenizer"
                )
        self._prepare = source_tokenizer.text_rules.prepare_tensor
        self._restore = target_tokenizer.text_rules.restore_tensor
        self.serve = tf.function(
            lambda inputs: self._serve(
                inputs,
                model,
                decoding,
                max_source_length,
                continues,
                shortlist,
                prepared,
                target_tokenizer.surfaces,
            ),
            input_signature=[tf.TensorSpec([None], tf.string, name="inputs")],
            autograph=False,
        )
        # Loading needs all that the graph reads as attributes, and nothing else: neither the Keras
        # model nor the weights from which others were prepared.
        variables = [variable.value for variable in model.trainable_variables]
        read = set(map(id, self.serve.get_concrete_function().captured_inputs))
        self._weights = [v for v in variables + prepared.variables if id(v.handle) in read]

    def _serve(
        self,
        inputs: tf.Tensor,
        model: EncoderDecoder | LanguageModel,
        decoding: DecodingConfig,
        max_source_length: int,
        continues: bool,
        shortlist: Shortlist | None,
        prepared: PreparedWeights,
        surfaces: Sequence[bytes],
    ) -> dict[str, tf.Tensor]:
        ids = self._encoder.tokenize(self._prepare(inputs))
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        too_long = tf.where(lengths > max_source_length)[:, 0]
        tf.debugging.Assert(
            tf.size(too_long) == 0,
            [_TOO_LONG, too_long[:1], max_source_length, tf.gather(lengths, too_long[:1])],
            summarize=1,
        )
        number = ids.nrows()
        if isinstance(model, LanguageModel):
            ids = tf.concat([tf.fill([number, 1], Tokenizer.bos_id), ids], axis=1)
        else:
            ids = tf.concat([ids, tf.fill([number, 1], Tokenizer.eos_id)], axis=1)
        found = search_model(
            model,
            ids.to_tensor(),
            lengths + 1,
            decoding,
            surfaces=surfaces,
            continues=continues,
            shortlist=shortlist,
            prepared=prepared,
        )
        texts, scores = self._detokenize(found), found.scores[:, 0]
        if continues:
            return {"outputs": texts, "scores": scores}
        is_empty = lengths == 0
        return {
            "outputs": tf.where(is_empty, "", texts),
            "scores": tf.where(is_empty, 0.0, scores),
        }

    def _detokenize(self, found: SearchResult) -> tf.Tensor:
        """Returns the best text of each line, string `(batch,)`."""
        ids, lengths = found.token_ids[:, 0], found.lengths[:, 0]
        ends = tf.reduce_any(ids == Tokenizer.eos_id, axis=1)
        ragged = tf.RaggedTensor.from_tensor(ids, lengths=lengths - tf.cast(ends, tf.int32))
        return self._restore(self._decoder.detokenize(ragged))


class ExportedModel:
    """A loaded export.

    Args:
        path: The folder of the SavedModel.

    Raises:
        InputError: If it is no export of this package, or holds something that none needs.
    """

    def __init__(self, path: str | Path) -> None:
        check_not_forked()
        path = user_path(path)
        _tensorflow_text()
        with checked_copy(path) as folder:
            try:
                with quiet_stderr():
                    self._loaded = tf.saved_model.load(str(folder))
            except Exception as error:  # Damaged variables can raise almost anything.
                raise RunError(
                    f"The export {path} is damaged and cannot be loaded. Export the run again."
                ) from error
        self._serve = self._loaded.signatures["serving_default"]

    def generate(self, texts: Sequence[str], *, first_line: int = 1) -> Outputs:
        """Returns the best output of each text and its score.

        Args:
            texts: The inputs.
            first_line: The line number of the first text, for messages.

        Raises:
            InputError: If an input is longer than the model takes.
        """
        check_not_forked()
        try:
            found = self._serve(inputs=tf.constant(list(texts), tf.string))
        except tf.errors.InvalidArgumentError as error:
            numbers = re.findall(r"\[+(\d+)\]+", error.message.partition(_TOO_LONG)[2])
            if len(numbers) < 3:
                raise
            place, limit, length = map(int, numbers[:3])
            raise InputError(
                f"Line {first_line + place} has {length} tokens; the model takes at most {limit}. "
                f"Split the line."
            ) from error
        return Outputs(
            [text.decode("utf-8") for text in found["outputs"].numpy()],
            found["scores"].numpy().tolist(),
        )


def export_model(
    module: ExportModule, path: Path, probes: Sequence[str], expected: Outputs
) -> None:
    """Writes a SavedModel, whole or not at all, once a fresh process has answered as expected.

    Args:
        module: What to write.
        path: A folder that does not exist yet, or is empty.
        probes: Inputs to try.
        expected: What the Python API gives for them.

    Raises:
        InputError: If `path` is in use.
        RunError: If the fresh process fails or answers otherwise; nothing is left at `path`.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(
            f"Expected a new or empty folder to export to. Received: {path}, which exists. Choose "
            f"another one, or remove it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_folder(path, "The export") as building:
        with quiet_stderr():
            tf.saved_model.save(
                module,
                str(building),
                signatures={"serving_default": module.serve},
                # An export is not trained.
                options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
            )
        check_saved_model(building)
        _check_answers(_ask_fresh_process(building, probes), expected, probes)
        building.chmod(0o755)  # Whatever the umask: a served model is read by another user.


def probe_lines(tokenizer: Tokenizer, longest: int) -> list[str]:
    """Returns lines to compare two ways of generating by: of several lengths, and odd ones.

    Args:
        tokenizer: The tokenizer of the inputs, from whose pieces the lines are made.
        longest: Tokens that a line may have.
    """
    first_piece = Tokenizer.eos_id + 1
    plain = np.random.default_rng(0).integers(first_piece, tokenizer.vocab_size, (8, 24)).tolist()
    lines = tokenizer.decode([row[: 3 * (place + 1)] for place, row in enumerate(plain)])
    lines += ["", " ", "a\0b", "\u6625\u5929\u5230\u4e86\u3002", "\U0001f600 ?!", "Aa Bb 12."]
    # Spellings that normalization makes one, and SentencePiece's mark of a space.
    lines += ["\ufeffcafe\u0301\u00a0\uac01\u1101\u1161", "a\u2581b\x10", "\uff21\u00ad\r"]
    return [
        line
        for line, ids in zip(lines, tokenizer.encode(lines), strict=True)
        if len(ids) <= longest
    ]


def _ask_fresh_process(path: Path, probes: Sequence[str]) -> Outputs:
    """Returns what an export answers where only tensorflow and tensorflow_text are imported."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "asked.json"), Path(folder, "answered.json")
        asked.write_text(json.dumps(list(probes)), encoding="utf-8")
        ended = subprocess.run(
            [sys.executable, "-c", _FRESH_PROCESS, path, asked, answered],
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise RunError(
                f"A fresh process could not run the export, so it was not kept. It said: "
                f"{ended.stderr.strip().rpartition(chr(10))[2]}"
            )
        return Outputs(*json.loads(answered.read_text(encoding="utf-8")))


def _check_answers(found: Outputs, expected: Outputs, probes: Sequence[str]) -> None:
    """Raises RunError where an export answers other than the Python API."""
    rows = zip(probes, found.texts, found.scores, expected.texts, expected.scores, strict=True)
    for probe, text, score, expected_text, expected_score in rows:
        if text != expected_text or abs(score - expected_score) > _SCORE_TOLERANCE:
            raise RunError(
                f"The export answers {probe!r} with {text!r} ({score:.4f}), the run with "
                f"{expected_text!r} ({expected_score:.4f}), so it was not kept. Please report this "
                f"with the versions that `s2s info` shows."
            )


def _tensorflow_text() -> ModuleType:
    """Returns the module whose ops tokenize within the graph.

    Raises:
        InputError: Where it is not installed.
    """
    try:
        import tensorflow_text
    except ImportError as error:
        raise InputError(
            "Exports need tensorflow-text, which is not installed here (it has no wheel for "
            "Windows and for Macs with Intel processors). Use Linux, WSL, Colab or a Mac with "
            "Apple silicon."
        ) from error
    return tensorflow_text
