"""Beam search as a tree: every hypothesis that it kept, what it came from and what became of it."""

from dataclasses import dataclass
from typing import Any, Literal

from seq2seq_kit.decoding import MINUS_INFINITY
from seq2seq_kit.decoding.beam import BeamRecord
from seq2seq_kit.errors import InputError
from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.inputs import Inputs
from seq2seq_kit.inference.stepwise import Steps, given_ids, to_vocabulary
from seq2seq_kit.insight.subject import TextModel, text_model, texts_of

Fate = Literal["extended", "finished", "open", "pruned"]
"""What became of a hypothesis: others that the beam kept extend it; it is among the results; the
search ended before it did; or better ones took its place."""


@dataclass(frozen=True)
class BeamNode:
    """A hypothesis that a beam search kept."""

    parent: int | None
    """The place of the hypothesis that it extends, in `BeamTree.nodes`; None for the first."""
    step: int
    """Its tokens: the step that made it, from 1; 0 for the first, which has none."""
    token: str
    """Its last token, with U+2581 for a space; "" for the first."""
    text: str
    """Its text; for a continuation, without its prompt."""
    log_prob: float
    """The log-probability of its tokens, in nats."""
    score: float | None
    """What a finished one is ranked by: the log-probability under the length penalty; None for one
    that has not ended."""
    fate: Fate
    """What became of it."""
    is_best: bool
    """Whether it is the output, or a beginning of it."""


@dataclass(frozen=True)
class BeamTree:
    """All hypotheses that a beam search kept for a line."""

    nodes: tuple[BeamNode, ...]
    """The hypotheses, each after the one that it extends."""
    output: str
    """The best of the finished ones: what `generate` returns."""


def beam_tree(model: TextModel | ExportedModel, source: str, **options: Any) -> BeamTree:
    """Returns every hypothesis that the beam search for a line keeps at any of its steps.

    The steps are those of the search that `generate` runs, taken one by one.

    Args:
        model: A `Seq2Seq` or an `ExportedModel`.
        source: The input; for a language model a prompt, "" for none.
        **options: Fields of `DecodingConfig` to use in place of the config's.

    Raises:
        InputError: If there is no beam (`beam_size` of 1, or sampling), an option is unknown or
            out of range, the source is over-long or empty, or the search does not fit into
            memory.

    Example:

        tree = insight.beam_tree(translator, "Guten Morgen!", beam_size=3)
        for node in tree.nodes:
            print(node.step, node.token, node.log_prob, node.fate)
    """
    model = text_model(model)
    check_not_forked()
    generator = model.generator
    decoding = generator.defaults.override((), **options)
    if decoding.sample or decoding.beam_size < 2:
        raise InputError(
            f"Only beam search has a tree. Received: beam_size={decoding.beam_size}, sample="
            f"{decoding.sample}. Use beam_size=2 or more, without sampling."
        )
    inputs = generator.inputs.encode([source])
    if generator.inputs.is_empty(inputs)[0]:
        raise InputError("An empty input is answered without a search. Pass a text.")
    generator.search.check_memory(inputs.lengths, decoding)
    return _Growth(model, inputs, generator.stepwise.steps(inputs, decoding)).grow()


class _Growth:
    """Builds the tree of a search from its records.

    Two hypotheses of a search never have the same tokens, so tokens identify a hypothesis, and its
    parent is the one with all but the last of them.

    Args:
        model: The model.
        inputs: The line.
        steps: Its search.
    """

    def __init__(self, model: TextModel, inputs: Inputs, steps: Steps) -> None:
        self._model = model
        self._inputs = inputs
        self._steps = steps
        # By tokens: the log-probability of each hypothesis, and the score of a finished one.
        self._log_probs: dict[tuple[int, ...], float] = {(): 0.0}
        self._scores: dict[tuple[int, ...], float] = {}

    def grow(self) -> BeamTree:
        """Takes the steps; returns the tree."""
        record = self._steps.begun.record
        for record in self._steps.records:
            self._add_alive(record)
            self._add_finished(record)
        found = self._steps.search.finish(record)
        best = tuple(found.token_ids[0, 0, : int(found.lengths[0, 0])].numpy().tolist())
        return self._tree(best, set(self._finished(record)), set(self._alive(record)))

    def _alive(self, record: BeamRecord) -> dict[tuple[int, ...], float]:
        """Returns the hypotheses that go on, with their log-probabilities."""
        time = int(record.time)
        log_probs = record.alive.log_probs
        of_model = record.alive.ranked if isinstance(log_probs, tuple) else log_probs
        rows = zip(
            record.alive.token_ids[0, :, :time].numpy().tolist(),
            record.alive.ranked[0].numpy().tolist(),
            of_model[0].numpy().tolist(),
            strict=True,
        )
        return {tuple(row): value for row, rank, value in rows if rank > MINUS_INFINITY / 2}

    def _add_alive(self, record: BeamRecord) -> None:
        if int(record.time) <= int(self._steps.search.max_length):  # Afterwards all were cut.
            self._log_probs.update(self._alive(record))

    def _finished(self, record: BeamRecord) -> dict[tuple[int, ...], tuple[float, float]]:
        """Returns the hypotheses that ended so far, with their log-probabilities and scores."""
        found = record.finished
        parts = (found.token_ids, found.lengths, found.log_probs, found.scores)
        rows = zip(*(part[0].numpy().tolist() for part in parts), strict=True)
        return {
            tuple(row[:length]): (log_prob, score)
            for row, length, log_prob, score in rows
            if score > MINUS_INFINITY / 2
        }

    def _add_finished(self, record: BeamRecord) -> None:
        for ids, (log_prob, score) in self._finished(record).items():
            self._log_probs[ids] = log_prob
            self._scores[ids] = score

    def _tree(
        self,
        best: tuple[int, ...],
        results: set[tuple[int, ...]],
        alive: set[tuple[int, ...]],
    ) -> BeamTree:
        """Returns the tree, given the tokens of the output, of all results and of those alive."""
        paths = sorted(self._log_probs, key=len)
        extended = {path[:-1] for path in paths}
        places = {path: place for place, path in enumerate(paths)}
        nodes = []
        for path, text in zip(paths, self._texts(paths), strict=True):
            fate: Fate = "pruned"
            if path in results:
                fate = "finished"
            elif path in extended:
                fate = "extended"
            elif path in alive:
                fate = "open"
            last = to_vocabulary(self._steps.begun.beginning, list(path[-1:]))
            node = BeamNode(
                parent=places[path[:-1]] if path else None,
                step=len(path),
                token="".join(texts_of(self._model.tokenizer, last)),
                text=text,
                log_prob=self._log_probs[path],
                score=self._scores.get(path),
                fate=fate,
                is_best=best[: len(path)] == path,
            )
            nodes.append(node)
        return BeamTree(tuple(nodes), nodes[places[best]].text)

    def _texts(self, paths: list[tuple[int, ...]]) -> list[str]:
        """Returns the text of each hypothesis, without that of its prompt."""
        begun = self._steps.begun
        tokenizer = self._model.tokenizer
        given = given_ids(begun.beginning)
        rows = [[*given, *to_vocabulary(begun.beginning, list(path))] for path in paths]
        if not self._model.config.joins_texts:
            return tokenizer.decode(rows)
        before = begun.before[0].numpy().tolist()
        (prompt,) = tokenizer.decode([before + begun.taken_back[0].numpy().tolist()])
        start = len(prompt) + bool(self._inputs.lost_space[0])
        return [text[start:] for text in tokenizer.decode([before + row for row in rows])]
