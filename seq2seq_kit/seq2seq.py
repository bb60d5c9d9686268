"""`Seq2Seq`: fit, load, generate, score, evaluate, export; what a notebook uses.

Composes the stages and adds nothing to them: whatever it does can be done with its parts.
"""

import difflib
import logging
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import keras
import tensorflow as tf

from seq2seq_kit.archive import load_archive
from seq2seq_kit.config import (
    Config,
    DecodingConfig,
    SavedConfig,
    load_config,
    load_saved_config,
    package_versions,
)
from seq2seq_kit.config.faults import suggest_key
from seq2seq_kit.config.resumption import changed_settings
from seq2seq_kit.config.rules import choose_defaults, keep_chosen
from seq2seq_kit.data.encode import LengthLimits
from seq2seq_kit.data.encoded import unigram_perplexity
from seq2seq_kit.data.entries import encode_corpora
from seq2seq_kit.data.sets import batch_set, encode_data, learn_shortlist
from seq2seq_kit.data.shortlist import Shortlist
from seq2seq_kit.data.texts import TextPairs, corpus_texts, validation_texts
from seq2seq_kit.data.tokenizers import Tokenizers, build_tokenizers
from seq2seq_kit.digests import FileDigests
from seq2seq_kit.errors import InputError, RunError, TrainingInterrupted
from seq2seq_kit.export.folder import FORMAT_VERSION, LongLines, check_unused
from seq2seq_kit.export.saved_model import (
    ExportModule,
    Outputs,
    export_model,
    long_line,
    probe_lines,
)
from seq2seq_kit.files import user_path
from seq2seq_kit.forking import check_not_forked
from seq2seq_kit.inference.evaluation import TextScores, compare_texts
from seq2seq_kit.inference.generator import Generator, Hypothesis
from seq2seq_kit.inference.inputs import as_texts, input_encoder
from seq2seq_kit.inference.scorer import Score, Scorer
from seq2seq_kit.interruption import Interrupted, catch_signals
from seq2seq_kit.model.build import build_network
from seq2seq_kit.model.matmul import has_bfloat16
from seq2seq_kit.model.memory import check_model, check_training_memory
from seq2seq_kit.model.networks import EncoderDecoder, LanguageModel
from seq2seq_kit.options import option_names, refuse_unknown_options
from seq2seq_kit.special_ids import EOS_ID, NUM_SPECIAL_IDS
from seq2seq_kit.startup import show_log
from seq2seq_kit.text.checks import check_files
from seq2seq_kit.text.statistics import measure_corpora
from seq2seq_kit.tokens.tokenizer import Tokenizer
from seq2seq_kit.training.advice import advise, describe_cut, describe_outputs
from seq2seq_kit.training.checkpoint import assign_variables, load_of_run
from seq2seq_kit.training.distribution import is_chief, make_strategy, mean_over_workers
from seq2seq_kit.training.history import read_metrics
from seq2seq_kit.training.keras_callbacks import check_callbacks
from seq2seq_kit.training.run_files import (
    changed_data,
    load_shortlist,
    load_tokenizers,
    save_run,
)
from seq2seq_kit.training.run_folder import RunFolder, read_json, save_json
from seq2seq_kit.training.samples import SampleLog
from seq2seq_kit.training.step import TrainingSteps
from seq2seq_kit.training.trainer import Trainer

logger = logging.getLogger(__name__)

# What `Generator.hypotheses` takes beside the texts.
_SEARCH_OPTIONS = [
    name
    for name in [*option_names(Generator.hypotheses), *DecodingConfig.model_fields]
    if name != "texts"
]


def _explain_fit_option(name: str, known: Sequence[str]) -> str:
    """Says what an unknown option of `fit` may have been meant to be: often a key of the config."""
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
        model: EncoderDecoder | LanguageModel,
        tokenizers: Tokenizers,
        config: Config,
        history: Sequence[dict[str, float]] = (),
        shortlist: Shortlist | None = None,
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
        """A record a validation: step, epoch, loss, val_loss, val_perplexity and so on."""
        self.results: dict[str, Any] = {}
        """What training ended with: the numbers of the table that `s2s fit` prints."""
        self._tokenizers = tokenizers
        continues = config.task == "continuation"
        self.inputs = input_encoder(config, tokenizers.source)
        """What encodes inputs, and knows which ones are too long."""
        self._shortlist = shortlist
        self._generator = Generator(
            model,
            self.inputs,
            tokenizers.target,
            defaults=config.decoding,
            continues=continues,
            heals=config.joins_texts,
            shortlist=shortlist,
        )
        self._scorer = Scorer(
            model, self.inputs, tokenizers.target, ends_with=_text_end(config, self.tokenizer)
        )

    @classmethod
    @refuse_unknown_options(explain=_explain_fit_option)
    def fit(
        cls,
        config: str | Path | Mapping[str, Any] | Config,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        *,
        overrides: Sequence[str] = (),
        run_dir: str | Path | None = None,
        resume: bool = False,
    ) -> Self:
        """Trains a model as a config says and returns it with its best weights.

        Seeds Keras's random numbers with the config's `seed`. Tells what it does through Python's
        `logging`, and shows that on standard error if no logging is set up.

        Args:
            config: A YAML file, its content as a dict, or a `Config`.
            callbacks: Keras callbacks, called as `keras.Model.fit` does.
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
        run = RunFolder(user_path(run_dir) if run_dir else _default_run_folder(config))
        callbacks = check_callbacks(callbacks)
        with catch_signals():
            try:
                return cls._fit(config, callbacks, overrides, run, resume)
            except Interrupted as interrupted:
                raise TrainingInterrupted(
                    run.path, interrupted.signal, can_resume=run.last.is_file()
                ) from interrupted

    @classmethod
    def _fit(
        cls,
        config: str | Path | Mapping[str, Any] | Config,
        callbacks: Sequence[keras.callbacks.Callback],
        overrides: Sequence[str],
        run: RunFolder,
        resume: bool,
    ) -> Self:
        name = str(config) if isinstance(config, str | Path) else "config"
        config = load_config(config, overrides)
        if config.training.strategy != "multi_worker":  # Their chief may hold the lock by now.
            run.check_free()
        _check_folder(run, resume)
        check_files(config, name)
        config = _complete(config, run, resume)
        # Whatever vocabulary the data give: the rest is known before a tokenizer takes its minutes.
        check_model(config.model, NUM_SPECIAL_IDS, None, trains=True)
        strategy = make_strategy(config.training.strategy)
        with _filled_by_chief(run, strategy):
            _check_folder(run, resume)
            return cls._fill(run, config, strategy, callbacks, resume)

    @classmethod
    def _fill(
        cls,
        run: RunFolder,
        config: Config,
        strategy: tf.distribute.Strategy,
        callbacks: Sequence[keras.callbacks.Callback],
        resume: bool,
    ) -> Self:
        """Trains into a folder that no other process fills."""
        digests = FileDigests()
        before = _check_same_run(run, config, digests) if resume else None
        tokenizers = load_tokenizers(run, before) if before else build_tokenizers(config, digests)
        if before:
            _check_same_tokenizers(run, config, tokenizers)
        logger.info("The run is kept in %s.", run.path)
        if config.training.precision == "bfloat16" and has_bfloat16() is False:
            logger.warning(
                "This processor has no instructions for bfloat16, so training is slower with it: "
                "use training.precision=float32."
            )
        data = encode_data(config, tokenizers, digests)
        keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            model = build_network(config, tokenizers, is_trained=True)
        check_training_memory(config, data, tokenizers.target.vocab_size)
        shortlist = _old_shortlist(run, before, tokenizers) if before else None
        if shortlist is None:
            shortlist = learn_shortlist(config, data.train, tokenizers)
        run_name = before.run if before else None
        if is_chief(strategy):
            run_name = save_run(run, config, tokenizers, shortlist, digests, before)
        fitted = cls(model, tokenizers, config, shortlist=shortlist)
        examples = validation_texts(config, data.validation, tokenizers, digests)
        samples = SampleLog(
            *examples,
            lambda sources: fitted.generate(sources, beam_size=1, truncate=True),
            config.training.validation_samples,
        )
        steps = TrainingSteps(model, config.training, strategy)
        trainer = Trainer(
            steps,
            config.training,
            run,
            batch_set(config, data.train, shuffle=True),
            batch_set(config, data.validation, shuffle=False),
            text_metrics=fitted._text_metrics(examples),
            callbacks=callbacks,
            parts=[samples],
            run_name=run_name,
        )
        if resume:
            trainer.resume()
        state = trainer.fit()
        logger.info("Training ended: %s.", state.finished)
        fitted.history = trainer.history
        best = load_archive(run.best)
        assign_variables(model.trainable_variables, best, "weights")
        fitted.results = {
            "ended": state.finished,
            "steps": state.step,
            "minutes": round(state.seconds / 60, 2),
            "best_step": best.metadata["step"],
            "validation_loss": best.metadata["val_loss"],
            "validation_perplexity": best.metadata["val_perplexity"],
            "guessing_perplexity": unigram_perplexity(data.validation),
        } | fitted._final_results(steps, digests, examples)
        if is_chief(strategy):
            save_json(run.results, fitted.results)
        for sentence in fitted.advice():
            logger.warning("Advice: %s", sentence)
        return fitted

    @classmethod
    @refuse_unknown_options()
    def load(cls, path: str | Path) -> Self:
        """Returns the trained model of a run folder.

        Loading runs no code from the folder: it is YAML, SentencePiece models and plain arrays.

        Raises:
            InputError: If the folder holds no trained run.
            RunError: If a file of it is damaged.
        """
        check_not_forked()
        run = RunFolder(user_path(path)).open_trained()
        saved = load_saved_config(run.config)
        tokenizers = load_tokenizers(run, saved)
        model = build_network(saved.config, tokenizers)
        best = load_of_run(run.best, saved.run)
        assign_variables(model.trainable_variables, best, "weights")
        shortlist = load_shortlist(run, saved, tokenizers)
        loaded = cls(model, tokenizers, saved.config, shortlist=shortlist)
        # The model can work without its past. A trained run has a record of a validation at least.
        loaded.history = read_metrics(run)
        if not loaded.history:
            logger.warning(
                "%s is missing or empty: the history of this run's validations is lost. Its "
                "weights are whole.",
                run.metrics,
            )
        try:
            loaded.results = read_json(run.results) if run.results.is_file() else {}
        except RunError as error:
            logger.warning("%s", error)
        return loaded

    @refuse_unknown_options(also=_SEARCH_OPTIONS)
    def hypotheses(self, texts: Iterable[str], **options: Any) -> Iterator[list[Hypothesis]]:
        """Yields the best hypotheses of each text; options as in `Generator.hypotheses`."""
        return self._generator.hypotheses(texts, **options)

    @refuse_unknown_options(also=_SEARCH_OPTIONS)
    def generate(self, texts: Iterable[str], *, echo: bool = False, **options: Any) -> list[str]:
        """Returns the best output for each text, in their order.

        Args:
            texts: Lines to translate, or prompts to continue.
            echo: Put the input before its output: a continuation follows its prompt, a translation
                its source and a tab.
            **options: As in `Generator.hypotheses`: fields of `DecodingConfig` such as
                `beam_size`, and `truncate`.
        """
        texts = as_texts(texts)
        outputs = [best.text for best in self._best(texts, **options)]
        if not echo:
            return outputs
        separator = "\t" if self.config.task == "translation" else ""
        return [f"{a}{separator}{b}" for a, b in zip(texts, outputs, strict=True)]

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
        return self._scorer.score(sources, targets, **options)

    @refuse_unknown_options(also=_SEARCH_OPTIONS)
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
        best = self._best(sources, **options)
        return self._compare(best, references, tokenize or self.config.data.bleu_tokenize)

    def _compare(
        self, outputs: Sequence[Hypothesis], references: Sequence[Sequence[str]], tokenize: str
    ) -> TextScores:
        normalize = self.tokenizer.normalize
        scores = compare_texts(
            [normalize(one.text) for one in outputs],
            # A text in place of a list of references is for `compare_texts` to refuse.
            [one if isinstance(one, str) else list(map(normalize, one)) for one in references],
            tokenize=tokenize,
        )
        is_counted = self.config.task == "translation"
        return replace(scores, cut_outputs=sum(one.is_cut and is_counted for one in outputs))

    def export(
        self,
        path: str | Path,
        *,
        decoding: DecodingConfig | None = None,
        long_lines: LongLines = "error",
        **options: Any,
    ) -> None:
        """Writes a SavedModel that takes and gives strings, and proves it in a fresh process.

        Its `serving_default` takes `inputs`, string `(batch,)`, and returns `outputs`, string
        `(batch,)`, and `scores`, float32 `(batch,)`. `n_best` returns `outputs`, `scores` and
        `log_probs` of the whole beam, `(batch, beam_size)`, and `describe` what the export says of
        itself, JSON. An export that truncates inputs also returns `is_truncated`, bool `(batch,)`,
        from `n_best`. Search options are fixed in it.

        Args:
            path: A folder that does not exist yet, or is empty.
            decoding: The options of the search; what was not set in it is as in the config.
            long_lines: What becomes of an input with more tokens than `data.max_source_length`:
                "error" costs its batch, "truncate" keeps the beginning of a line to translate and
                the end of a prompt, "mark" gives it an empty output with the score -inf.
            **options: Fields of `DecodingConfig` to use in place of those.

        Raises:
            InputError: If `path` is in use, an option is unknown or out of range, or
                tensorflow-text is not installed.
            RunError: If the export answers other than this model does, or cannot be written.
        """
        path = user_path(path)
        check_unused(path)
        if long_lines not in (choices := typing.get_args(LongLines)):
            raise InputError(
                f"`long_lines` must be one of {', '.join(choices)}. Received: {long_lines!r}."
            )
        names = ("decoding", "long_lines")
        decoding = self.config.decoding.merge(decoding).override(names, **options)
        limit = self.inputs.max_length
        # Of its own, because this one's graph may hold cuDNN's ops, which run on a GPU only.
        model = build_network(self.config, self._tokenizers, use_cudnn=False)
        for new, old in zip(model.trainable_variables, self.model.trainable_variables, strict=True):
            new.assign(old)
        metadata = self._metadata(decoding, long_lines)
        module = ExportModule(
            model,
            self.inputs,
            self.tokenizer,
            decoding=decoding,
            continues=self.config.task == "continuation",
            heals=self.config.joins_texts,
            long_lines=long_lines,
            shortlist=self._shortlist,
            metadata=metadata,
        )
        probes = probe_lines(self.source_tokenizer, limit)
        if long_lines == "truncate" and limit is not None:
            probes.append(long_line(self.source_tokenizer, limit))
        found = self.hypotheses(probes, decoding=decoding, truncate=True)
        expected = Outputs([], [])
        for best, *_ in found:
            expected.texts.append(best.text)
            expected.scores.append(best.score)
        if long_lines == "mark" and limit is not None:
            probes.append(long_line(self.source_tokenizer, limit))
            expected.texts.append("")
            expected.scores.append(-math.inf)
        export_model(module, path, probes, expected, metadata)

    def _metadata(self, decoding: DecodingConfig, long_lines: LongLines) -> dict[str, Any]:
        """Returns what an export says of itself: nothing of where and by whom it was made."""
        return {
            "format_version": FORMAT_VERSION,
            "task": self.config.task,
            "max_source_length": self.inputs.max_length,
            "long_lines": long_lines,
            "num_hypotheses": 1 if decoding.sample else decoding.beam_size,
            "decoding": decoding.model_dump(mode="json"),
            "tokenizers": {
                side: {
                    "vocab_size": tokenizer.vocab_size,
                    "lossless": tokenizer.lossless,
                    "normalization": tokenizer.text_rules.normalization,
                }
                for side, tokenizer in self._tokenizers._asdict().items()
            },
            "model": self.config.model.model_dump(mode="json")
            | {"parameters": self.model.count_params()},
            "results": self.results,
            "versions": package_versions("tensorflow-text"),
        }

    def advice(self) -> list[str]:
        """Returns what to change if the results are poor, in a sentence or two; else nothing."""
        return advise(self.config, self.history, self.results, self.tokenizer.vocab_size)

    def _final_results(
        self, steps: TrainingSteps, digests: FileDigests, examples: TextPairs
    ) -> dict[str, Any]:
        """Measures the best weights: on the test data, or on the validation data without them."""
        test = self.config.data.test
        results: dict[str, Any] = {}
        if test is not None:
            limits = LengthLimits.of(self.config.data)
            encoded = encode_corpora(test, self._tokenizers, limits, digests)
            loss = steps.mean_loss(batch_set(self.config, encoded, shuffle=False))
            results |= {"test_loss": loss, "test_perplexity": math.exp(min(loss, 700.0))}
        if self.config.task == "translation":
            if test is not None:
                examples = corpus_texts(test)
            best = self._best(examples.sources, truncate=True)
            references = [[target] for target in examples.targets]
            scores = self._compare(best, references, self.config.data.bleu_tokenize)
            if scores.cut_outputs:
                limit = self.config.decoding.max_length
                logger.warning("%s", describe_cut(scores.cut_outputs, len(best), limit))
            name = "validation" if test is None else "test"
            described = asdict(scores) | describe_outputs(*examples, [one.text for one in best])
            results |= {f"{name}_{key}": value for key, value in described.items()}
        return results

    def _text_metrics(self, examples: TextPairs) -> Callable[[], dict[str, float]] | None:
        """Returns what the trainer calls for BLEU and chrF, or None if they decide nothing."""
        if self.config.training.early_stopping.metric == "loss":
            return None

        def measure() -> dict[str, float]:
            scores = self.evaluate(
                examples.sources, [[text] for text in examples.targets], beam_size=1, truncate=True
            )
            return {"bleu": scores.bleu, "chrf": scores.chrf}

        return measure


def _default_run_folder(config: str | Path | Mapping[str, Any] | Config) -> Path:
    return Path("runs") / (Path(config).stem if isinstance(config, str | Path) else "unnamed")


def _complete(config: Config, run: RunFolder, resume: bool) -> Config:
    """Returns a config with every key: what it leaves out suits the data, or is as the run has it.

    What was chosen is logged; a resumed run keeps what was chosen when it was started.
    """
    if resume:
        return keep_chosen(config, load_saved_config(run.config).config)
    config, choices = choose_defaults(config, measure_corpora(config.data, config.tokenizer))
    if choices:
        listed = "".join(f"\n  {choice}" for choice in choices)
        logger.info(
            "Chosen to suit the data; a key that the config gives stays as it is:%s", listed
        )
    return config


@contextmanager
def _filled_by_chief(run: RunFolder, strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Has the chief make and lock the run folder; if it cannot, no worker waits for it.

    Raises:
        InputError: On all workers, if the chief cannot.
    """
    with ExitStack() as stack:
        fault: InputError | None = None
        if is_chief(strategy):
            try:
                stack.enter_context(run.filled())
            except InputError as error:
                fault = error
        if mean_over_workers(strategy, float(fault is not None)) > 0:
            raise fault or InputError(
                f"The chief of the workers cannot fill the run folder {run.path}: see what it says."
            )
        yield


def _check_folder(run: RunFolder, resume: bool) -> None:
    """Raises InputError if a folder holds a run, or none to resume."""
    if resume:
        run.check_resumable()
    else:
        run.check_new()


def _check_same_run(run: RunFolder, config: Config, digests: FileDigests) -> SavedConfig:
    """Returns what the run to resume was started with; raises InputError if that was otherwise.

    Contents decide: neither the folder nor its data have to be where they were.
    """
    saved = load_saved_config(run.config)
    if changed := changed_settings(saved.config, config):
        listed = "\n".join(f"  {line}" for line in changed)
        raise InputError(
            f"The run in {run.path} was started with other settings:\n{listed}\nPut these back to "
            f"resume it, or train into another folder."
        )
    if changed := changed_data(run, config, saved, digests):
        listed = "\n".join(f"  {line}" for line in changed)
        raise InputError(
            f"The run in {run.path} was started with other texts:\n{listed}\nName those to resume "
            f"it, or train into another folder."
        )
    return saved


def _check_same_tokenizers(run: RunFolder, config: Config, tokenizers: Tokenizers) -> None:
    """Raises InputError if a ready tokenizer is not the one that a run was started with."""
    for side, vocabulary in config.tokenizer.vocabularies():
        if vocabulary.model is None:
            continue
        own = tokenizers.source if side == "source" else tokenizers.target
        # The second as a run of an earlier version keeps it.
        ready = [
            Tokenizer.load(vocabulary.model, form) for form in (vocabulary.normalization, None)
        ]
        if own.fingerprint not in [one.fingerprint for one in ready]:
            raise InputError(
                f"The run in {run.path} was started with another tokenizer than "
                f"{vocabulary.model}. Put that back to resume it, or train into another folder."
            )


def _old_shortlist(run: RunFolder, saved: SavedConfig, tokenizers: Tokenizers) -> Shortlist | None:
    """Returns the shortlist of a run; None if it is to be learnt anew."""
    try:
        return load_shortlist(run, saved, tokenizers)
    except RunError as error:
        logger.warning("%s It is learnt anew.", error)
        return None


def _text_end(config: Config, tokenizer: Tokenizer) -> int:
    """Returns the token that ends a line: the newline's in running text, EOS elsewhere."""
    if config.data.is_running_text:
        return tokenizer.encode(["\n"])[0][-1]
    return EOS_ID
