"""`Seq2Seq`: fit, load, generate, score, evaluate, export; what a notebook uses.

Composes the stages and adds nothing to them: whatever it does can be done with its parts.
"""

import difflib
import logging
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras

from seq2seq_kit.config import (
    AdaptationConfig,
    Config,
    DecodingConfig,
    load_saved_config,
    suggest_option,
)
from seq2seq_kit.config.faults import suggest_key
from seq2seq_kit.data.in_memory import overrides_for
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.tokenizers import Tokenizers
from seq2seq_kit.errors import InputError, RunError, TrainingInterrupted
from seq2seq_kit.export.build import export_run
from seq2seq_kit.export.folder import ExportFormat, LongLines, check_unused
from seq2seq_kit.files import user_path
from seq2seq_kit.fitting import fit_run
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.build import build_generator, build_scorer
from seq2seq_kit.inference.evaluation import TextScores, compare_hypotheses
from seq2seq_kit.inference.generator import Generator, Hypothesis
from seq2seq_kit.inference.inputs import as_texts, input_encoder
from seq2seq_kit.inference.scorer import Score, Scorer
from seq2seq_kit.inference.state import GenerationState
from seq2seq_kit.interruption import Interrupted, catch_signals
from seq2seq_kit.model.build import build_network
from seq2seq_kit.model.ensemble import Ensemble, Network
from seq2seq_kit.model.networks import EncoderDecoder
from seq2seq_kit.options import option_names, refuse_unknown_options
from seq2seq_kit.pretrained.catalog import run_path
from seq2seq_kit.pretrained.compact import Storage
from seq2seq_kit.startup import show_log
from seq2seq_kit.training.advice import advise
from seq2seq_kit.training.checkpoint import assign_variables, load_best
from seq2seq_kit.training.keras_callbacks import check_callbacks
from seq2seq_kit.training.records import read_metrics
from seq2seq_kit.training.run_files import (
    load_shortlist,
    load_tokenizers,
)
from seq2seq_kit.training.run_folder import RunFolder, read_json

logger = logging.getLogger(__name__)

# What `Generator.hypotheses` takes beside the texts.
_SEARCH_OPTIONS = [
    name
    for name in [*option_names(Generator.hypotheses), *DecodingConfig.model_fields]
    if name != "texts"
]


def _explain_fit_option(name: str, known: Sequence[str]) -> str:
    """Suggests what an unknown option of `fit` may have been: often it is a key of the config."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"Did you mean `{close[0]}`?"
    return (
        f"{suggest_key(name, Config)} Keys of the config go into the config, or into "
        f"`overrides=[...]`."
    )


class Seq2Seq:
    """A model with its tokenizers and its config.

    Made by `Seq2Seq.fit` or `Seq2Seq.load`.

    Example:

        translator = Seq2Seq.fit("translation.yaml")
        translator.generate(["Guten Morgen!"])
    """

    def __init__(
        self,
        model: Network,
        tokenizers: Tokenizers,
        config: Config,
        *,
        shortlist: Shortlist | None = None,
        history: Sequence[dict[str, float]] = (),
        results: Mapping[str, Any] | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.model = model
        """The network, a `keras.Model`."""
        self.tokenizer = tokenizers.target
        """The tokenizer of the outputs."""
        self.source_tokenizer = tokenizers.source
        """The tokenizer of the inputs; the same object if the sides share one."""
        self.config = config
        """The resolved config."""
        self.history = list(history)
        """A record for each validation: step, epoch, loss, val_loss, val_perplexity and so on."""
        self.results = dict(results or {})
        """The results of training: the numbers of the table that `s2s fit` prints."""
        self._tokenizers = tokenizers
        self.inputs = input_encoder(config, tokenizers.source)
        """What encodes inputs, and knows which ones are too long."""
        self._shortlist = shortlist
        # One that has already been used has its graphs traced.
        self.generator = generator or build_generator(config, model, tokenizers, shortlist)
        """What generates texts."""
        self.scorer = build_scorer(config, model, tokenizers)
        """What scores texts."""

    @classmethod
    @refuse_unknown_options(explain=_explain_fit_option)
    def fit(
        cls,
        config: str | Path | Mapping[str, Any] | Config,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        *,
        train: Any = None,
        validation: Any = None,
        test: Any = None,
        overrides: Sequence[str] = (),
        run_dir: str | Path | None = None,
        resume: bool = False,
    ) -> Self:
        """Trains a model as a config says and returns it with its best weights.

        Seeds Keras's random numbers with the config's `seed`. Reports progress through Python's
        `logging`, and shows it on standard error if no logging is set up.

        Args:
            config: A YAML file, its content as a dict, or a `Config`.
            callbacks: Keras callbacks, called as `keras.Model.fit` does.
            train: Texts in place of the config's `data.train`: an iterable of pairs of strings, of
                records with `source` and `target`, or for continuation of strings; a pandas
                `DataFrame` or a Hugging Face `Dataset` with these columns. They are kept in the
                cache folder.
            validation: The same in place of `data.validation`.
            test: The same in place of `data.test`.
            overrides: As in `load_config`: `training.epochs=3`.
            run_dir: Where everything is kept; by default `runs/<name of the config file>`, for a
                dict or `Config` `runs/unnamed`.
            resume: Go on with the run in that folder.

        Raises:
            InputError: If the config or the data cannot work, or the folder holds a run.
            TrainingInterrupted: On Ctrl-C, SIGTERM or SIGHUP, once the state is saved.
        """
        show_log()
        check_not_forked()
        if isinstance(overrides, list | tuple):  # Anything else is refused with the config.
            texts = overrides_for(train=train, validation=validation, test=test)
            overrides = [*texts, *overrides]
        run = RunFolder(user_path(run_dir) if run_dir else _default_run_folder(config))
        callbacks = check_callbacks(callbacks)
        with catch_signals():
            try:
                fitted = fit_run(
                    config,
                    run,
                    callbacks=callbacks,
                    overrides=overrides,
                    resume=resume,
                )
            except Interrupted as interrupted:
                raise TrainingInterrupted(
                    run.path, interrupted.signal, can_resume=run.last.is_file()
                ) from interrupted
        return cls(**fitted._asdict())

    @classmethod
    @refuse_unknown_options()
    def load(cls, path: str | Path | Sequence[str | Path]) -> Self:
        """Returns a packaged model, the trained model of a run folder, or an ensemble of several.

        Loading runs no code from the folder: it is YAML, SentencePiece models and plain arrays.

        Args:
            path: A run folder, or the name of a packaged model (`seq2seq_kit.pretrained` lists
                them). A folder of that name comes first. A list of several is an ensemble, whose
                `model` is an `Ensemble`: they are encoder-decoders with the same tokenizers, and
                options are by default as in the config of the first.

        Raises:
            InputError: If there is no such model, the folder holds no trained run, or models cannot
                be in one ensemble.
            RunError: If a file of it is damaged.
        """
        check_not_forked()
        if not isinstance(path, str | Path):
            return cls._load_ensemble(path)
        run = RunFolder(run_path(path)).open_trained()
        saved = load_saved_config(run.config)
        tokenizers = load_tokenizers(run, saved)
        model = build_network(saved.config, tokenizers)
        assign_variables(model.trainable_variables, load_best(run, saved), "weights")
        # The model works without its past. A trained run has at least one record of a validation.
        history = read_metrics(run)
        if not history:
            logger.warning(
                "%s is missing or empty: the history of this run's validations is lost. Its "
                "weights are whole.",
                run.metrics,
            )
        results: dict[str, Any] = {}
        try:
            results = read_json(run.results) if run.results.is_file() else {}
        except RunError as error:
            logger.warning("%s", error)
        return cls(
            model,
            tokenizers,
            saved.config,
            shortlist=load_shortlist(run, saved, tokenizers),
            history=history,
            results=results,
        )

    @classmethod
    def _load_ensemble(cls, paths: Sequence[str | Path]) -> Self:
        """Returns several models as one; a single one is no ensemble."""
        if not paths:
            raise InputError("Expected one or more runs. Received an empty list.")
        first, *others = loaded = [cls.load(path) for path in paths]
        if not others:
            return first
        members = []
        for path, run in zip(paths, loaded, strict=True):
            if not isinstance(run.model, EncoderDecoder):
                raise InputError(
                    f"An ensemble is of encoder-decoders. {path} is a language model. Leave it out."
                )
            _check_vocabularies(first, run, f"{paths[0]} and {path}")
            members.append(run.model)
        return cls(Ensemble(members), first._tokenizers, first.config)

    @refuse_unknown_options(also=_SEARCH_OPTIONS, explain=suggest_option)
    def hypotheses(self, texts: Iterable[str], **options: Any) -> Iterator[list[Hypothesis]]:
        """Yields the best hypotheses of each text; options as in `Generator.hypotheses`."""
        return self.generator.hypotheses(texts, **options)

    @refuse_unknown_options(also=_SEARCH_OPTIONS, explain=suggest_option)
    def generate(
        self,
        texts: Iterable[str] = (),
        *,
        state: GenerationState | None = None,
        echo: bool = False,
        **options: Any,
    ) -> list[str]:
        """Returns the best output for each text, in their order.

        Args:
            texts: Lines to translate, or prompts to continue.
            state: The state to continue from, as `read` returns it: returns what comes next, as a
                list of one text, and moves the state behind it. The only option that it
                accepts is `max_length`.
            echo: Put the input before its output: a continuation follows its prompt, a translation
                its source and a tab.
            **options: As in `Generator.hypotheses`: fields of `DecodingConfig` such as
                `beam_size`, and `truncate`.

        Raises:
            InputError: If there are neither texts nor a state, or as `Generator.hypotheses`.
        """
        if state is not None:
            return [self.generator.write(state, self._max_length(texts == (), **options))]
        if texts == ():
            raise InputError(
                'Expected texts, such as generate(["one", "two"]), or a state. Received: nothing.'
            )
        texts = as_texts(texts)
        outputs = [best.text for best in self._best(texts, **options)]
        if not echo:
            return outputs
        separator = "\t" if self.config.task == "translation" else ""
        return [f"{a}{separator}{b}" for a, b in zip(texts, outputs, strict=True)]

    def _max_length(self, has_no_text: bool, **options: Any) -> int | None:
        """Returns the one option beside a state.

        Raises:
            InputError: If there are others, or a text.
        """
        others = [name for name in options if name != "max_length"]
        if others or not has_no_text:
            raise InputError(
                f"Beside `state`, only `max_length` is accepted: the other options are those that "
                f"`read` was given. Received: {', '.join(others) or 'texts'}."
            )
        return options.get("max_length")

    @refuse_unknown_options(also=_SEARCH_OPTIONS, explain=suggest_option)
    def stream(
        self,
        text: str | None = None,
        *,
        state: GenerationState | None = None,
        prefix: str = "",
        **options: Any,
    ) -> Iterator[str]:
        """Yields the best output of a text piece by piece; options as in `Generator.stream`.

        Args:
            text: The input.
            state: The state to continue from, as in `generate`; it moves with the pieces.
            prefix: A text with which the output must begin; not with a state.
            **options: As in `Generator.stream`; with a state, `max_length` only.

        Raises:
            InputError: As `Generator.stream`, or if there is neither a text nor a state.

        Example:

            for piece in model.stream("Once upon a time"):
                print(piece, end="", flush=True)
        """
        if state is not None:
            if prefix:
                options["prefix"] = prefix
            return self.generator.stream_state(state, self._max_length(text is None, **options))
        if text is None:
            raise InputError("Expected a text or a state. Received: nothing.")
        return self.generator.stream(text, prefix=prefix, **options)

    @refuse_unknown_options(also=_SEARCH_OPTIONS, explain=suggest_option)
    def read(self, prompt: str, **options: Any) -> GenerationState:
        """Reads a prompt with a language model; options as in `Generator.read`.

        Example:

            state = model.read("Once upon a time")
            first, = model.generate(state=state, max_length=50)
            state.save("story.state")
            second, = model.generate(state=model.load_state("story.state"), max_length=50)
        """
        return self.generator.read(prompt, **options)

    def load_state(self, path: str | Path) -> GenerationState:
        """Returns a state that was saved; errors as in `Generator.load_state`."""
        return self.generator.load_state(path)

    def _best(self, texts: Iterable[str], **options: Any) -> list[Hypothesis]:
        if "num_hypotheses" in options:
            raise InputError(
                "`num_hypotheses` is an option of `hypotheses`, which gives several outputs for "
                "each text; `generate` gives the best one. Leave it out, or use `hypotheses`."
            )
        return [best for best, *_ in self.hypotheses(texts, **options)]

    @refuse_unknown_options(also=option_names(Scorer.score))
    def score(self, sources: Iterable[str], targets: Iterable[str], **options: Any) -> list[Score]:
        """Returns how likely each target is after its source; options as in `Scorer.score`."""
        return self.scorer.score(sources, targets, **options)

    @refuse_unknown_options(also=[*AdaptationConfig.model_fields])
    def score_text(
        self, lines: Iterable[str], *, adapt: bool = False, **options: Any
    ) -> list[Score]:
        """Returns how likely each line of running text is after all lines before it.

        Args:
            lines: As in `Scorer.score_text`.
            adapt: Whether the model learns from the lines while it reads them. It predicts each
                token before it learns from it, and afterwards is as it was.
            **options: Fields of `AdaptationConfig` to use in place of the config's.

        Raises:
            InputError: As in `Scorer.score_text`; or if an option is out of range, or given
                without `adapt`.
        """
        if options and not adapt:
            raise InputError(
                f"Options of an adaptation need adapt=True. Received: {', '.join(options)}."
            )
        adaptation = self.config.adaptation.override(**options) if adapt else None
        return self.scorer.score_text(lines, adaptation)

    @refuse_unknown_options(also=[*AdaptationConfig.model_fields])
    def adapted(self, lines: Iterable[str], **options: Any) -> Self:
        """Returns a copy of this model that has learned from running text, to write in its manner.

        Args:
            lines: The text, as in `Scorer.score_text`.
            **options: Fields of `AdaptationConfig` to use in place of the config's.

        Raises:
            InputError: As in `Scorer.score_text`, or if an option is out of range.

        Example:

            lines = Path("letters.txt").read_text().splitlines()
            model.adapted(lines).generate(["Dear"])
        """
        adaptation = self.config.adaptation.override(**options)
        adapted = self.copy()
        adapted.scorer.adapt(lines, adaptation)
        return adapted

    def copy(self) -> Self:
        """Returns the same model with weights that can be changed without changing these."""
        self._check_no_ensemble("changed")
        model = build_network(self.config, self._tokenizers)
        model.set_weights(self.model.get_weights())
        return type(self)(
            model,
            self._tokenizers,
            self.config,
            shortlist=self._shortlist,
            history=self.history,
            results=self.results,
        )

    @refuse_unknown_options(also=_SEARCH_OPTIONS, explain=suggest_option)
    def evaluate(
        self,
        sources: Iterable[str],
        references: Sequence[Sequence[str]],
        *,
        tokenize: str | None = None,
        **options: Any,
    ) -> TextScores:
        """Returns how the outputs for the sources compare with references.

        Both are compared as `Tokenizer.normalize` of the target side gives them, so that
        equivalent spellings are equal; a model cannot write what normalization drops.

        Args:
            sources: The inputs.
            references: For each source its right answers, one or more.
            tokenize: sacrebleu's tokenizer for BLEU; None takes the config's.
            **options: As in `Generator.hypotheses`.
        """
        return compare_hypotheses(
            self._best(sources, **options),
            references,
            self.tokenizer,
            tokenize=tokenize or self.config.data.bleu_tokenize,
            counts_cut=self.config.task == "translation",
        )

    def export(
        self,
        path: str | Path,
        *,
        decoding: DecodingConfig | None = None,
        export_format: ExportFormat = "saved_model",
        long_lines: LongLines = "error",
        weights: Storage = "float32",
        **options: Any,
    ) -> None:
        """Writes a SavedModel from strings to strings, and verifies it in a fresh process.

        Its `serving_default` takes `inputs`, string `(batch,)`, and returns `outputs`, string
        `(batch,)`, and `scores`, float32 `(batch,)`. `n_best` returns the whole beam, `sample`
        samples with a given seed, `score` how likely given targets are, and `describe` a
        description of the export, JSON, which lists all signatures with their types. The search
        options are fixed.

        Args:
            path: A folder that does not exist yet, or is empty.
            decoding: The options of the search; those that are not set in it are as in the config.
            export_format: "saved_model"; or "litert": models for LiteRT with a runner that needs no
                TensorFlow, whose search options may be changed.
            long_lines: What the export does with an input of more tokens than
                `data.max_source_length`: "error" refuses its whole batch, "truncate" keeps the
                beginning of a line to translate and the end of a prompt, "mark" gives it an empty
                output with the score -inf.
            weights: How the matrices are stored: "float32"; "float16", "bfloat16" (not for LiteRT)
                or "int8" (with a scale for each row or column) make smaller files. A SavedModel
                expands them in memory at the first call.
            **options: Fields of `DecodingConfig` to use in place of those.

        Raises:
            InputError: If `path` is in use, an option is unknown, out of range or not in this
                format, or tensorflow-text or ai-edge-litert is not installed.
            RunError: If the export answers other than this model does, or cannot be written.
        """
        self._check_no_ensemble("exported")
        path = user_path(path)
        check_unused(path)
        for name, value, kind in (
            ("export_format", export_format, ExportFormat),
            ("long_lines", long_lines, LongLines),
            ("weights", weights, Storage),
        ):
            if value not in (choices := typing.get_args(kind)):
                raise InputError(
                    f"`{name}` must be one of {', '.join(choices)}. Received: {value!r}."
                )
        names = ("decoding", "export_format", "long_lines", "weights")
        decoding = self.config.decoding.merge(decoding).override(names, **options)
        export_run(
            path,
            self.config,
            self.generator,
            self._tokenizers,
            self._shortlist,
            decoding=decoding,
            export_format=export_format,
            long_lines=long_lines,
            weights=weights,
            results=self.results,
        )

    def summary(self) -> None:
        """Prints the layers of the network, with the shapes of their outputs and their weights."""
        self.model.summary(expand_nested=True)

    def _check_no_ensemble(self, done: str) -> None:
        """Raises InputError if this is an ensemble."""
        if isinstance(self.model, Ensemble):
            raise InputError(f"An ensemble cannot be {done}. Use one of its runs alone.")

    def advice(self) -> list[str]:
        """Returns what to change if the results are poor, in a sentence or two; else nothing."""
        return advise(self.config, self.history, self.results, self.tokenizer.vocab_size)


def _check_vocabularies(first: Seq2Seq, other: Seq2Seq, names: str) -> None:
    """Raises InputError if two models cannot be in one ensemble."""
    for side in ("source", "target"):
        tokenizers = [getattr(run._tokenizers, side) for run in (first, other)]
        if len({tokenizer.fingerprint for tokenizer in tokenizers}) > 1:
            sizes = " and ".join(str(tokenizer.vocab_size) for tokenizer in tokenizers)
            raise InputError(
                f"The models of an ensemble must have the same vocabularies. The {side} "
                f"vocabularies of {names} differ ({sizes} pieces). Train them with the same "
                f"tokenizers: name the first one's in the config of the others "
                f"(`tokenizer.model`)."
            )


def _default_run_folder(config: str | Path | Mapping[str, Any] | Config) -> Path:
    return Path("runs") / (Path(config).stem if isinstance(config, str | Path) else "unnamed")
