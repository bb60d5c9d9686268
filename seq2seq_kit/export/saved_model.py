"""Exports a model as a SavedModel from string to string: tokenizer, search and weights in one.

It runs wherever `tensorflow` and `tensorflow_text` are imported, without this package. It is
traced without cuDNN, so that it runs on any machine whatever machine made it.
"""

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq_kit.atomic import explain_write_errors, write_folder
from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.decoding import SearchResult
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.export.folder import (
    LongLines,
    as_json,
    check_unused,
    digests_checked,
    write_digests,
    write_metadata,
)
from seq2seq_kit.export.safety import check_saved_model, checked_copy
from seq2seq_kit.export.verify import Outputs, Probes, verify_export
from seq2seq_kit.files import user_path
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.inference.inputs import InputEncoder, Inputs, hash_texts
from seq2seq_kit.inference.parallel import map_ahead, num_threads
from seq2seq_kit.inference.search import Found, ModelSearch
from seq2seq_kit.model.matmul import WeightCache
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.special_ids import BOS_ID, EOS_ID
from seq2seq_kit.startup import quiet_stderr
from seq2seq_kit.tokens.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

# Followed by the place of the first such input, the limit and its length.
_TOO_LONG = "An input has more tokens than the model takes (its place, the limit, its tokens):"

# Followed by the place of the first such input.
_NOT_TEXT = "An input is not UTF-8 (its place):"

# Lines handed to the graph at once. The number of threads does not change it: with a shortlist, the
# last bits of a score may depend on the lines beside it.
_LINES_AT_ONCE = 1024

# What `n_best` gives, in the order of a `Hypothesis`.
_COLUMNS = ("outputs", "log_probs", "scores", "is_cut")


class ExportModule(tf.Module):
    """The graph from strings to strings, as three signatures.

    Args:
        model: A network that uses no cuDNN.
        inputs: Encodes the inputs.
        tokenizer: Decodes the outputs.
        decoding: The options of the search, fixed in the export.
        continues: Whether outputs continue prompts.
        heals: As for `Generator`.
        long_lines: What to do with an input that has too many tokens: "error" fails, "truncate"
            cuts it, "mark" gives it an empty output with the score -inf. One that is not UTF-8 is
            marked too, else fails.
        shortlist: What outputs are limited to where `decoding.shortlist` asks for it.
        metadata: Describes the export.
    """

    def __init__(
        self,
        model: EncoderDecoder | LanguageModel,
        inputs: InputEncoder,
        tokenizer: Tokenizer,
        *,
        decoding: DecodingConfig,
        continues: bool,
        heals: bool = False,
        long_lines: LongLines = "error",
        shortlist: Shortlist | None = None,
        metadata: Mapping[str, Any],
    ) -> None:
        super().__init__()
        text = _tensorflow_text()
        weight_cache = WeightCache(keep=True)
        with quiet_stderr():
            # A loaded export finds each by its name; without one, both would be the same.
            self._encoder = text.SentencepieceTokenizer(
                model=inputs.tokenizer.model_proto, name="source_tokenizer"
            )
            self._decoder = self._encoder
            if tokenizer is not inputs.tokenizer:
                self._decoder = text.SentencepieceTokenizer(
                    model=tokenizer.model_proto, name="target_tokenizer"
                )
        search = _StringSearch(
            inputs,
            self._encoder,
            self._decoder,
            ModelSearch(model, tokenizer, continues=continues, heals=heals, shortlist=shortlist),
            decoding,
            long_lines=long_lines,
            weight_cache=weight_cache,
        )
        strings = [tf.TensorSpec([None], tf.string, name="inputs")]
        self.n_best = tf.function(
            lambda inputs: search(inputs), input_signature=strings, autograph=False
        )
        self.serve = tf.function(self._best, input_signature=strings, autograph=False)
        description = as_json(metadata)
        self.describe = tf.function(
            lambda: {"description": tf.constant(description)}, input_signature=[], autograph=False
        )
        # Loading needs all that the graph reads as attributes, and nothing else: neither the Keras
        # model nor the weights from which cached ones were made.
        variables = [variable.value for variable in model.trainable_variables]
        read = set(map(id, self.n_best.get_concrete_function().captured_inputs))
        self._weights = [v for v in variables + weight_cache.variables if id(v.handle) in read]

    def _best(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        found = self.n_best(inputs)
        return {name: found[name][:, 0] for name in ("outputs", "scores")}


class _StringSearch:
    """From strings to the hypotheses of each, in graph.

    Args:
        inputs: Encodes the inputs in Python; says how.
        encoder: The tokenizer of the inputs in the graph.
        decoder: The tokenizer of the outputs in the graph.
        search: Searches for the ids of the outputs.
        decoding: The options of the search.
        long_lines: As for `ExportModule`.
        weight_cache: Keeps operands made from the weights.
    """

    def __init__(
        self,
        inputs: InputEncoder,
        encoder: Any,
        decoder: Any,
        search: ModelSearch,
        decoding: DecodingConfig,
        *,
        long_lines: LongLines,
        weight_cache: WeightCache,
    ) -> None:
        self._inputs = inputs
        self._encoder = encoder
        self._decoder = decoder
        self._search = search
        self._decoding = decoding
        self._long_lines = long_lines
        self._weight_cache = weight_cache

    def __call__(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the hypotheses of each input, best first.

        Args:
            inputs: string `(batch,)`.

        Returns:
            Of the shape `(batch, num_hypotheses)`: `outputs`, string; `log_probs` and `scores`,
            float32; `is_cut`, bool. Where inputs are truncated, also `is_truncated`, bool
            `(batch,)`.
        """
        is_text = tf.strings.unicode_transcode(inputs, "UTF-8", "UTF-8", errors="ignore") == inputs
        if self._long_lines != "mark":
            _refuse(~is_text, _NOT_TEXT)
        rules = self._inputs.tokenizer.text_rules
        texts = rules.prepare_tensor(tf.where(is_text, inputs, ""))
        ids, is_overlong = self._limit(self._encoder.tokenize(texts))
        encoded = self._with_special_ids(ids, texts)
        found = self._search(
            encoded,
            self._decoding,
            num_hypotheses=1 if self._decoding.sample else self._decoding.beam_size,
            weight_cache=self._weight_cache,
        )
        answers = {
            "outputs": self._texts(found, encoded.lost_space),
            "log_probs": found.hypotheses.log_probs,
            "scores": found.hypotheses.scores,
            "is_cut": found.hypotheses.is_cut,
        }
        if not self._inputs.answers_empty:
            answers = _replace(encoded.lengths == 1, 0.0, answers)
        if self._long_lines == "mark":
            answers = _replace(is_overlong | ~is_text, -math.inf, answers)
        if self._long_lines == "truncate" and self._inputs.max_length is not None:
            answers["is_truncated"] = is_overlong
        return answers

    def _limit(self, ids: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Returns ids that are not too long, and which had been, bool `(batch,)`."""
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        limit = self._inputs.max_length
        if limit is None:
            return ids, tf.zeros_like(lengths, tf.bool)
        is_overlong = lengths > limit
        match self._long_lines:
            case "error":
                _refuse(is_overlong, _TOO_LONG, limit, lengths)
            case "truncate":
                ids = _cut(ids, tf.minimum(lengths, limit), keep_end=self._inputs.keep_end)
            case "mark":
                ids = _cut(ids, tf.where(is_overlong, 0, lengths), keep_end=False)
        return ids, is_overlong

    def _with_special_ids(self, ids: tf.RaggedTensor, texts: tf.Tensor) -> Inputs:
        """Returns the inputs of the search; in graph what `InputEncoder.encode` does."""
        number, lengths = ids.nrows(), tf.cast(ids.row_lengths(), tf.int32)
        place = tf.maximum(tf.strings.length(texts) - 1, 0)
        last = tf.strings.substr(texts, place, tf.ones_like(place))
        lost_space = (last == " ") & (lengths > 0) & self._inputs.marks_spaces
        if self._inputs.reads_prompt:
            ids = tf.concat([tf.fill([number, 1], BOS_ID), ids], axis=1)
        else:
            ids = tf.concat([ids, tf.fill([number, 1], EOS_ID)], axis=1)
        # Only samples depend on a text beyond its ids.
        hashes = hash_texts(texts) if self._decoding.sample else tf.zeros_like(lengths, tf.int64)
        return Inputs(ids.to_tensor(), lengths + 1, lost_space, hashes)

    def _texts(self, found: Found, lost_space: tf.Tensor) -> tf.Tensor:
        """Returns the text of each hypothesis, string `(batch, num_hypotheses)`."""
        shape = tf.shape(found.hypotheses.lengths)
        ids = _ids_without_eos(found.hypotheses)
        if not self._search.heals:
            return tf.reshape(self._detokenize(ids), shape)
        before = found.before
        prompts = self._detokenize(tf.concat([before, found.taken_back], axis=1))
        start = tf.strings.length(prompts) + tf.cast(lost_space, tf.int32)
        line = tf.repeat(tf.range(shape[0]), shape[1])
        texts = self._detokenize(tf.concat([tf.gather(before, line), ids], axis=1))
        size = tf.strings.length(texts)
        texts = tf.strings.substr(texts, tf.minimum(tf.gather(start, line), size), size)
        return tf.reshape(texts, shape)

    def _detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        rules = self._search.tokenizer.text_rules
        return rules.restore_tensor(self._decoder.detokenize(ids))


def _ids_without_eos(found: SearchResult) -> tf.RaggedTensor:
    """Returns the tokens of each hypothesis, a row for each."""
    ids = tf.reshape(found.token_ids, [-1, tf.shape(found.token_ids)[-1]])
    ends = tf.reduce_any(ids == EOS_ID, axis=1)
    lengths = tf.reshape(found.lengths, [-1]) - tf.cast(ends, tf.int32)
    return tf.RaggedTensor.from_tensor(ids, lengths=lengths)


def _refuse(is_wrong: tf.Tensor, message: str, *values: Any) -> None:
    """Fails where an input is wrong, with the place of the first one.

    Args:
        is_wrong: bool `(batch,)`.
        message: What is wrong.
        *values: What the message ends with: numbers, and of a tensor `(batch,)` that input's.
    """
    first = tf.where(is_wrong)[:1, 0]
    values = tuple(tf.gather(v, first) if tf.is_tensor(v) else v for v in values)
    tf.debugging.Assert(tf.size(first) == 0, [message, first, *values], summarize=1)


def _cut(ids: tf.RaggedTensor, lengths: tf.Tensor, *, keep_end: bool) -> tf.RaggedTensor:
    """Returns the first or last ids of each row.

    Args:
        ids: int32 `(batch, None)`.
        lengths: int32 `(batch,)`. Ids to keep, of each row at most as many as it has.
        keep_end: Whether to keep the last ones.
    """
    kept = tf.cast(lengths, tf.int64)
    starts = ids.row_limits() - kept if keep_end else ids.row_starts()
    values = tf.gather(ids.values, tf.ragged.range(starts, starts + kept).values)
    return tf.RaggedTensor.from_row_lengths(values, kept, validate=False)


def _replace(
    where: tf.Tensor, number: float, answers: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Returns answers with an empty output in some lines.

    Args:
        where: bool `(batch,)`. Which lines.
        number: Their log-probability and score.
        answers: What `_StringSearch` returns.
    """
    empty = {"outputs": "", "log_probs": number, "scores": number, "is_cut": False}
    where = where[:, tf.newaxis]
    return {name: tf.where(where, empty[name], value) for name, value in answers.items()}


class ExportedModel:
    """A loaded export.

    Args:
        path: The folder of the SavedModel.

    Raises:
        InputError: If it is no export of this package, or holds something that none needs.
        RunError: If a file of it is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        check_not_forked()
        path = user_path(path)
        _tensorflow_text()
        with digests_checked(path), checked_copy(path) as folder:
            try:
                with quiet_stderr(), _functions_as_graphs():
                    self._loaded = tf.saved_model.load(str(folder))
            except Exception as error:  # Damaged variables can raise almost anything.
                raise RunError(
                    f"The export {path} is damaged and cannot be loaded. Export the run again."
                ) from error
        self._signatures = self._loaded.signatures
        self.metadata: dict[str, Any] = {}
        """The metadata of the export; empty for exports made before there was any."""
        self.num_truncated = 0
        """The inputs so far that were too long and were truncated, if the export counts them."""
        self._is_optimized = False
        if "describe" in self._signatures:
            self.metadata = json.loads(self._signatures["describe"]()["description"].numpy())

    @property
    def truncates(self) -> bool:
        """Whether it truncates over-long inputs and counts them."""
        return (
            "n_best" in self._signatures
            and "is_truncated" in self._signatures["n_best"].structured_outputs
        )

    def generate(self, texts: Sequence[str], *, first_line: int = 1) -> Outputs:
        """Returns the best output of each text and its score.

        Args:
            texts: The inputs.
            first_line: The line number of the first text, for messages.

        Raises:
            InputError: If an input is longer than the model takes, unless the export truncates or
                marks such lines.
        """
        best = [one for (one,) in self.hypotheses(texts, first_line=first_line)]
        return Outputs([one.text for one in best], [one.score for one in best])

    def hypotheses(
        self,
        texts: Sequence[str],
        *,
        num_hypotheses: int = 1,
        threads: int = 0,
        first_line: int = 1,
    ) -> Iterator[list[Hypothesis]]:
        """Yields the best hypotheses of each text, best first; they have no `token_ids`.

        An input that the export marks has empty ones with log-probability and score -inf.

        Args:
            texts: The inputs.
            num_hypotheses: Hypotheses returned, at most as many as the exported beam has.
            threads: As in `DecodingConfig`.
            first_line: The line number of the first text, for messages.

        Raises:
            InputError: If the export gives fewer hypotheses, or an input is longer than the model
                takes, unless the export truncates or marks such lines.
        """
        check_not_forked()
        _check_number(num_hypotheses, self.metadata.get("num_hypotheses", 1))
        # An export made before there was one has the best output only.
        name = "n_best" if "n_best" in self._signatures else "serving_default"
        starts = range(0, len(texts), _LINES_AT_ONCE)
        threads = num_threads(threads, len(starts))
        if threads > 1 and not self._is_optimized:
            # TensorFlow optimizes a graph in its first calls: threads would each do it in theirs.
            self._call(name, [""], first_line)
            self._is_optimized = True

        def search(start: int) -> dict[str, np.ndarray]:
            return self._call(name, texts[start : start + _LINES_AT_ONCE], first_line + start)

        for found in map_ahead(search, ((start, 0.0) for start in starts), threads=threads):
            if name == "n_best":
                self.num_truncated += int(np.sum(found.get("is_truncated", 0)))
            else:
                found = {key: value[:, np.newaxis] for key, value in found.items()}
                is_cut = np.zeros_like(found["scores"], bool)
                found |= {"log_probs": found["scores"], "is_cut": is_cut}
            values = zip(*(found[name].tolist() for name in _COLUMNS), strict=True)
            for line in values:
                hypotheses = [
                    Hypothesis(text.decode("utf-8"), (), log_prob, score, is_cut)
                    for text, log_prob, score, is_cut in zip(*line, strict=True)
                ]
                yield hypotheses[:num_hypotheses]

    def _call(self, name: str, texts: Sequence[str], first_line: int) -> dict[str, np.ndarray]:
        """Returns what a signature gives, as arrays."""
        for place, text in enumerate(texts):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise _not_text(first_line + place) from error
        try:
            found = self._signatures[name](inputs=tf.constant(list(texts), tf.string))
        except tf.errors.InvalidArgumentError as error:
            raise _explain(error, first_line) or error from error
        return {key: value.numpy() for key, value in found.items()}


def _check_number(num_hypotheses: int, most: int) -> None:
    if num_hypotheses > most:
        raise InputError(
            f"`num_hypotheses` must be at most {most}, the beam of the export, or its one sample. "
            f"Received: {num_hypotheses}. Export the run again with a larger beam, or use the run."
        )


def _explain(error: tf.errors.InvalidArgumentError, first_line: int) -> InputError | None:
    """Returns what is wrong with an input, in words for people; None if that is not it."""
    _, is_long, rest = error.message.partition(_TOO_LONG)
    numbers = [int(number) for number in re.findall(r"\[+(\d+)\]+", rest)]
    if is_long and len(numbers) >= 3:
        place, limit, length, *_ = numbers
        return InputError(
            f"Line {first_line + place} has {length} tokens; the model takes at most {limit}. "
            f"Split the line, or export the run with --long-lines truncate or mark."
        )
    _, is_not_text, rest = error.message.partition(_NOT_TEXT)
    if is_not_text and (number := re.search(r"\[+(\d+)\]+", rest)):
        return _not_text(first_line + int(number[1]))
    return None


def _not_text(line: int) -> InputError:
    return InputError(f"Line {line} is not UTF-8. Save the text as UTF-8.")


def export_model(
    module: ExportModule,
    path: Path,
    probes: Probes,
    metadata: Mapping[str, Any],
) -> None:
    """Writes a SavedModel, whole or not at all, once a fresh process has answered as expected.

    Args:
        module: The module to write.
        path: A folder that does not exist yet, or is empty.
        probes: Inputs to try, with the expected outputs.
        metadata: The description that the export contains.

    Raises:
        InputError: If `path` is in use.
        RunError: If the fresh process fails or answers otherwise, or the disk is full; nothing is
            left at `path`.
    """
    check_unused(path)
    with explain_write_errors(path, "The export"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with write_folder(path, "The export") as building:
        with quiet_stderr(), _functions_as_graphs():
            tf.saved_model.save(
                module,
                str(building),
                signatures={
                    "serving_default": module.serve,
                    "n_best": module.n_best,
                    "describe": module.describe,
                },
                # An export is not trained.
                options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
            )
        check_saved_model(building)
        verify_export(building, probes)
        write_metadata(building, metadata)
        write_digests(building)
        building.chmod(0o755)  # Whatever the umask: a served model is read by another user.


@contextmanager
def _functions_as_graphs() -> Iterator[None]:
    """Has TensorFlow's own functions traced in the body, though other code has all run eagerly."""
    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(False)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(eagerly)


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
