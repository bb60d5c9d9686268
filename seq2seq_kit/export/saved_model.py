"""Writes exports, and loads them: SavedModels from strings to strings.

An export runs wherever `tensorflow` and `tensorflow_text` are imported, without this package.
"""

import functools
import json
import logging
import numbers
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import tensorflow as tf

from seq2seq_kit import bounds
from seq2seq_kit.atomic import explain_write_errors, write_folder
from seq2seq_kit.config import Config, DecodingConfig
from seq2seq_kit.errors import InputError, RunError, shorten
from seq2seq_kit.export.codec import tensorflow_text
from seq2seq_kit.export.folder import (
    check_unused,
    digests_checked,
    write_digests,
    write_metadata,
    write_probes,
)
from seq2seq_kit.export.rebuild import RebuiltModel, described_config, rebuild_model
from seq2seq_kit.export.safety import check_saved_model, checked_copy
from seq2seq_kit.export.signatures import Signatures, check_texts
from seq2seq_kit.export.verify import Outputs, Probes, verify_export
from seq2seq_kit.files import user_path
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.inference.scorer import Score
from seq2seq_kit.startup import quiet_stderr

logger = logging.getLogger(__name__)

# What `n_best` and `sample` give, in the order of a `Hypothesis`.
_COLUMNS = ("outputs", "log_probs", "scores", "is_cut")


class ExportState:
    """The point from which the text of an exported language model goes on.

    `ExportedModel.read` makes one, and `ExportedModel.write` moves it; `fork` keeps a copy.

    Args:
        tensors: What the signatures `read` and `continue` return and take, of one text.
    """

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.tensors = tensors
        """Arrays by name, with leading axis 1."""

    @property
    def has_ended(self) -> bool:
        """Whether the model has ended its text, so that nothing follows."""
        return bool(self.tensors["has_ended"][0])

    def fork(self) -> Self:
        """Returns a copy: both go on from here, independently of each other."""
        return type(self)(self.tensors)  # Its arrays are replaced, never changed.


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
        self.path = path = user_path(path)
        """The folder."""
        tensorflow_text()
        with digests_checked(path), checked_copy(path) as folder:
            try:
                with quiet_stderr(), _functions_as_graphs():
                    self._loaded = tf.saved_model.load(str(folder))
            except Exception as error:  # Damaged variables can raise almost anything.
                raise RunError(
                    f"The export {path} is damaged and cannot be loaded. Export the run again."
                ) from error
        self.signatures = Signatures(self._loaded.signatures)
        """Its signatures."""
        self.metadata: dict[str, Any] = {}
        """The metadata of the export; empty for exports made before there was any."""
        self.num_truncated = 0
        """The inputs so far that were too long and were truncated, if the export counts them."""
        if "describe" in self.signatures:
            description: Any = self.signatures.run("describe")["description"]
            self.metadata = json.loads(description)

    @functools.cached_property
    def rebuilt(self) -> RebuiltModel:
        """The network of the export with its tokenizers, to look inside it: what `insight` uses.

        It is made at the first use, which reads the graph again, and takes as much memory as the
        weights.

        Raises:
            InputError: If the export was made by an earlier version.
            RunError: If a file of it is damaged.
        """
        config = self.config
        with digests_checked(self.path):
            content = check_saved_model(self.path)
        return rebuild_model(config, content, self.metadata["stored_weights"], self._loaded.weights)

    @functools.cached_property
    def config(self) -> Config:
        """The config that `rebuilt` has.

        Raises:
            InputError: If the export was made by an earlier version.
            RunError: If its description is damaged.
        """
        if not self.can_be_rebuilt:
            raise InputError(
                f"The export {self.path} was made by an earlier version, which did not say where "
                f"the weights of its network are. Export the run again to look inside it, or load "
                f"the run."
            )
        return described_config(self.metadata)

    @property
    def can_be_rebuilt(self) -> bool:
        """Whether `insight` can look inside it: exports of earlier versions lack what it needs."""
        return "stored_weights" in self.metadata

    @property
    def truncates(self) -> bool:
        """Whether it truncates over-long inputs and counts them."""
        return self.signatures.has_output("n_best", "is_truncated")

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
        sample: bool | None = None,
        seed: int | None = None,
        threads: int = 0,
        first_line: int = 1,
    ) -> Iterator[list[Hypothesis]]:
        """Yields the best hypotheses of each text, best first, or samples, without `token_ids`.

        An input that the export marks has empty ones with log-probability and score -inf.

        Args:
            texts: The inputs.
            num_hypotheses: Hypotheses returned, at most as many as the exported beam has; or the
                number of samples.
            sample: True for samples, which every export can draw; None for what it was made to do.
            seed: The seed of the samples; None for the one that the export was made with.
            threads: As in `DecodingConfig`.
            first_line: The line number of the first text, for messages.

        Raises:
            InputError: If the export gives fewer hypotheses, a seed is given without `sample`, or
                an input is longer than the model takes, unless the export truncates or marks such
                lines.
        """
        check_not_forked()
        others: dict[str, tf.Tensor] = {}
        # An export made before there was one has the best output only.
        name = "n_best" if "n_best" in self.signatures else "serving_default"
        samples = check_sampling(self.metadata, sample, seed, num_hypotheses)
        if samples is not None:
            name = "sample"
            _check_number_of_samples(num_hypotheses)
            others = {
                "num_samples": tf.constant(num_hypotheses),
                "seed": tf.constant(samples.seed, tf.int64),
            }
        else:
            _check_number(num_hypotheses, self.metadata.get("num_hypotheses", 1))
        for found in self.signatures.search(
            name, texts, threads=threads, first_line=first_line, **others
        ):
            if name == "serving_default":
                found = {key: value[:, np.newaxis] for key, value in found.items()}
                is_cut = np.zeros_like(found["scores"], bool)
                found |= {"log_probs": found["scores"], "is_cut": is_cut}
            self._count_truncated(found)
            for line in _hypotheses(found):
                yield line[:num_hypotheses]

    def sample(
        self,
        texts: Sequence[str],
        *,
        num_samples: int = 1,
        seed: int | None = None,
        threads: int = 0,
        first_line: int = 1,
    ) -> list[list[Hypothesis]]:
        """Returns samples of the outputs of each text; they have no `token_ids`.

        They are those that `Seq2Seq.hypotheses(texts, sample=True, seed=seed,
        num_hypotheses=num_samples)` gives with the other options of the export.

        Args:
            texts: The inputs.
            num_samples: Samples of each input.
            seed: From 0 to 2**32 - 1; None for the one that the export was made with.
            threads: As in `DecodingConfig`.
            first_line: The line number of the first text, for messages.

        Raises:
            InputError: If a number is out of range, an input is longer than the model takes, or
                the export was made before exports could sample.
        """
        options: dict[str, Any] = {"sample": True, "seed": seed, "threads": threads}
        return list(
            self.hypotheses(texts, num_hypotheses=num_samples, first_line=first_line, **options)
        )

    def score(
        self, sources: Sequence[str], targets: Sequence[str], *, first_line: int = 1
    ) -> list[Score]:
        """Returns how likely each target is after its source, in the precision of the export.

        Args:
            sources: The inputs; for a language model the prompts, "" for none.
            targets: The texts to score, one for each source.
            first_line: The line number of the first pair, for messages.

        Raises:
            InputError: If the numbers differ, a source is longer than the model takes, unless the
                export truncates or marks such lines, or the export was made before exports could
                score.
        """
        if len(sources) != len(targets):
            raise InputError(
                f"Expected one target for each source. Received: {len(sources)} sources, "
                f"{len(targets)} targets."
            )
        check_texts(targets, first_line)
        found = self.signatures.ask(
            "score", sources, first_line, targets=tf.constant(targets, tf.string)
        )
        self._count_truncated(found)
        columns = (found[name].tolist() for name in ("log_probs", "num_tokens"))
        return [Score(*pair) for pair in zip(*columns, strict=True)]

    def read(self, prompt: str, *, seed: int | None = None) -> ExportState:
        """Reads a prompt with a language model; returns the state from which `write` goes on.

        Args:
            prompt: The prompt.
            seed: As in `sample`; greedy search does not use it.

        Raises:
            InputError: If the export has no states, or the seed is out of range.
        """
        found = self.signatures.ask("read", [prompt], 1, seed=self._seed(seed))
        return ExportState(found)

    def write(self, state: ExportState, max_length: int | None = None) -> str:
        """Returns the next text after a state, and moves the state behind it.

        What the last tokens leave open, such as the first bytes of a character, is returned with
        the next text. The texts are those of `Seq2Seq.generate(state=...)`.

        Args:
            state: From `read`.
            max_length: Generated tokens at most; None uses that of the export.

        Raises:
            InputError: If the state is of another model, or the number is out of range.
        """
        options = {"max_length": max_length or self.metadata["decoding"]["max_length"]}
        length = DecodingConfig().check_values(options)["max_length"]
        tensors = {name: tf.constant(part) for name, part in state.tensors.items()}
        found = self.signatures.run("continue", max_length=tf.constant(length), **tensors)
        text: str = found.pop("outputs")[0].decode()
        state.tensors = found
        return text

    def _seed(self, seed: int | None) -> tf.Tensor:
        """Returns a seed, or that of the export, as a signature takes it."""
        if seed is None:
            seed = self.metadata.get("decoding", {}).get("seed", 1)
        return tf.constant(DecodingConfig().check_values({"seed": seed})["seed"], tf.int64)

    def _count_truncated(self, found: dict[str, np.ndarray]) -> None:
        self.num_truncated += int(np.sum(found.get("is_truncated", 0)))


def _hypotheses(found: dict[str, np.ndarray]) -> list[list[Hypothesis]]:
    """Returns the hypotheses of each line in what a signature gave."""
    values = zip(*(found[name].tolist() for name in _COLUMNS), strict=True)
    return [
        [
            Hypothesis(text.decode("utf-8"), (), log_prob, score, is_cut)
            for text, log_prob, score, is_cut in zip(*line, strict=True)
        ]
        for line in values
    ]


def check_sampling(
    metadata: Mapping[str, Any], sample: bool | None, seed: int | None, num_hypotheses: int
) -> DecodingConfig | None:
    """Returns options with the seed of samples; None for what the export was made to do.

    Args:
        metadata: Those of the export.
        sample: As in `ExportedModel.hypotheses`.
        seed: As in `ExportedModel.hypotheses`.
        num_hypotheses: Likewise; several of an export that samples are samples with its own seed.

    Raises:
        InputError: If they contradict each other or the export, or are out of range.
    """
    given = {"sample": sample, "seed": seed}
    values = DecodingConfig().check_values({k: v for k, v in given.items() if v is not None})
    exported = metadata.get("decoding", {})
    if values.get("sample") is False and exported.get("sample", False):
        raise InputError(
            "This export samples, because its search is fixed. Received: sample=False. Export "
            "the run again with other options, or use the run."
        )
    is_sampled = values.get("sample", exported.get("sample", False))
    if "seed" not in values and not (is_sampled and (values or num_hypotheses > 1)):
        return None
    if not is_sampled:
        raise InputError(
            "`seed` has an effect only with `sample: true` (--sample, in Python sample=True)."
        )
    return DecodingConfig(sample=True, seed=values.get("seed", exported.get("seed", 1)))


def _check_number_of_samples(number: int) -> None:
    if not isinstance(number, numbers.Integral) or not 1 <= number <= bounds.MAX_BEAM_SIZE:
        raise InputError(
            f"The number of samples must be a whole number from 1 to {bounds.MAX_BEAM_SIZE}. "
            f"Received: {shorten(number)}."
        )


def _check_number(num_hypotheses: int, most: int) -> None:
    if num_hypotheses > most:
        raise InputError(
            f"`num_hypotheses` must be at most {most}, the beam of the export. Received: "
            f"{num_hypotheses}. Export the run again with a larger beam, or use the run."
        )


class Exportable(Protocol):
    """What `export_model` writes: an `ExportModule`."""

    root: Any
    """The object to save."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The description of the export."""

    def signatures(self) -> dict[str, Any]:
        """Returns the functions to save, by the names of their signatures."""


def export_model(module: Exportable, path: Path, probes: Probes) -> None:
    """Writes a SavedModel, whole or not at all, once a fresh process has answered as expected.

    Args:
        module: The module to write.
        path: A folder that does not exist yet, or is empty.
        probes: Inputs to try, with the expected outputs.

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
            signatures = module.signatures()
            tf.saved_model.save(
                module.root,
                str(building),
                signatures=signatures,
                # An export is not trained.
                options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
            )
        check_saved_model(building)
        found = verify_export(building, probes)
        write_probes(building, probes.lines, found.answers)
        write_metadata(building, module.metadata)
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
