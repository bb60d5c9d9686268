"""`s2s compare`: whether one run is better than another on the same test data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seq2seq_kit.cli.lengths import check_lengths
from seq2seq_kit.cli.options import FILE, SearchCommand, debug_option, long_lines_option
from seq2seq_kit.cli.tables import columns, short_label
from seq2seq_kit.errors import InputError

if TYPE_CHECKING:
    from seq2seq_kit.config import Config, CorpusConfig
    from seq2seq_kit.inference.comparison import Comparison
    from seq2seq_kit.seq2seq import Seq2Seq
    from seq2seq_kit.text.references import SourceWithReferences

# sacrebleu's default.
_SEED = 12345


@click.command(cls=SearchCommand)
@click.argument("runs", type=FILE, nargs=-1, required=True, metavar="RUN_A RUN_B [RUN]...")
@click.option("--source", type=FILE, help="The inputs, one a line.")
@click.option(
    "--reference",
    "references",
    type=FILE,
    multiple=True,
    help="The correct outputs, line by line with --source. Repeat it for several files.",
)
@click.option("--tsv", type=FILE, help="Inputs and correct outputs, as for `s2s evaluate`.")
@click.option("--text", type=FILE, help="Continuation only: the text on which losses are compared.")
@click.option(
    "--tokenize",
    type=click.Choice(["13a", "intl", "zh", "char", "none"]),
    help="sacrebleu's tokenizer for BLEU.  [default: as in the runs' configs]",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=100, max=100_000),
    default=1000,
    show_default=True,
    help="How many test sets are drawn from the lines of the given one.",
)
@click.option(
    "--resampling-seed",
    type=click.IntRange(min=1, max=2**32 - 1),
    default=_SEED,
    show_default=True,
    help="The seed of that draw; the default is sacrebleu's.",
)
@click.option(
    "--lines",
    "num_lines",
    type=click.IntRange(min=0, max=1000),
    default=5,
    show_default=True,
    help="How many of the lines in which a run differs most from RUN_A are printed.",
)
@long_lines_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@debug_option
def compare(
    runs: tuple[Path, ...],
    source: Path | None,
    references: tuple[Path, ...],
    tsv: Path | None,
    text: Path | None,
    tokenize: str | None,
    resamples: int,
    resampling_seed: int,
    num_lines: int,
    long_lines: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Say whether runs are better than RUN_A, or only luckier, on the same test data.

    The runs write outputs for the same inputs, those of their configs' `data.test` unless others
    are given. BLEU, chrF and exact match have p-values from sacrebleu's paired bootstrap resampling
    (Koehn, 2004): below 0.05, a difference from RUN_A is hardly luck. Language models are compared
    in the same way by their loss per character. Options after --long-lines hold for all runs.
    """
    given = _Given(source, references, tsv, text)
    _check_usage(runs, given)
    configs = [_config_of(run, options) for run in runs]
    _check_alike(runs, configs, tokenize)
    given.check_fits(configs[0], runs[0])
    if _compares_losses(configs[0]):
        compared: _Losses | _Outputs = _compare_losses(runs, text, configs)
    else:
        compared = _compare_outputs(runs, given, configs, long_lines, options)
    bleu_tokenize = tokenize or configs[0].data.bleu_tokenize
    comparison = compared.test(bleu_tokenize, resamples, resampling_seed)
    baseline, *others = map(str, runs)
    different = {name: compared.most_different(baseline, name, num_lines) for name in others}
    if as_json:
        described = asdict(comparison) | {"runs": [baseline, *others], "lines": different}
        click.echo(json.dumps(described, ensure_ascii=False, indent=2))
        return
    click.echo(_table([baseline, *others], comparison))
    for signature in comparison.signatures.values():
        click.echo(signature)
    for name, lines in different.items():
        if lines:
            click.echo(_list_lines(lines, f"\nLines in which {name} differs most from {baseline}:"))


def _check_usage(runs: Sequence[Path], given: "_Given") -> None:
    if len(runs) < 2 or len(set(map(str, runs))) < len(runs):
        raise click.UsageError("Expected at least two different runs.")
    sources = [given.source, given.tsv, given.text]
    has_one = sum(one is not None for one in sources) <= 1
    if not has_one or bool(given.references) != (given.source is not None):
        raise click.UsageError("Expected --source with --reference, or --tsv, or --text, or none.")


def _compares_losses(config: "Config") -> bool:
    """Whether texts without a source are modeled, so that there is no one right output."""
    return config.joins_texts


@dataclass(frozen=True)
class _Given:
    """The test data on the command line."""

    source: Path | None
    references: tuple[Path, ...]
    tsv: Path | None
    text: Path | None

    @property
    def is_any(self) -> bool:
        return any(one is not None for one in (self.source, self.tsv, self.text))

    def check_fits(self, config: "Config", run: Path) -> None:
        """Raises UsageError if the runs need another kind of data."""
        if self.is_any and _compares_losses(config) != (self.text is not None):
            kind = "--text" if self.text is None else "--source with --reference, or --tsv"
            raise click.UsageError(f"{run} and others of its kind are compared with {kind}.")


@dataclass
class _Outputs:
    """What the runs wrote for the same inputs."""

    answers: "list[SourceWithReferences]"
    references: list[list[str]]
    by_run: dict[str, list[str]]

    def test(self, tokenize: str, samples: int, seed: int) -> "Comparison":
        from seq2seq_kit.inference.comparison import compare_outputs

        return compare_outputs(
            self.by_run, self.references, tokenize=tokenize, samples=samples, seed=seed
        )

    def most_different(self, baseline: str, name: str, number: int) -> list[dict[str, Any]]:
        """Returns the lines with the largest differences in chrF."""
        from sacrebleu.metrics.chrf import CHRF

        chrf = CHRF()
        scores = [
            [
                chrf.sentence_score(output, line).score
                for output, line in zip(self.by_run[run], self.references, strict=True)
            ]
            for run in (baseline, name)
        ]
        return [
            {
                "line": self.answers[place].line,
                "input": self.answers[place].source,
                "reference": self.references[place][0],
                "outputs": {run: self.by_run[run][place] for run in (baseline, name)},
                "chrf": {baseline: scores[0][place], name: scores[1][place]},
            }
            for place in _largest(scores, number)
        ]


@dataclass
class _Losses:
    """The losses of language models on the same lines."""

    lines: list[str]
    nats: dict[str, list[float]]

    def test(self, _tokenize: str, samples: int, seed: int) -> "Comparison":
        from seq2seq_kit.inference.comparison import compare_losses

        characters = [len(line) + 1 for line in self.lines]
        return compare_losses(self.nats, characters, samples=samples, seed=seed)

    def most_different(self, baseline: str, name: str, number: int) -> list[dict[str, Any]]:
        scores = [self.nats[baseline], self.nats[name]]
        return [
            {
                "line": place + 1,
                "text": self.lines[place],
                "nats": {baseline: scores[0][place], name: scores[1][place]},
            }
            for place in _largest(scores, number)
        ]


def _list_lines(lines: Sequence[Mapping[str, Any]], heading: str) -> str:
    """Returns lines with what the runs wrote for them, under a heading."""
    shown = [heading]
    for line in lines:
        scores = line.get("chrf") or line["nats"]
        unit = "chrF {:.1f}" if "chrf" in line else "{:.2f} nats"
        shown += ["", f"line {line['line']}"]
        shown += [f"  {key}: {line[key]}" for key in ("input", "reference", "text") if key in line]
        for run, score in scores.items():
            output = f" {line['outputs'][run]}" if "outputs" in line else ""
            shown.append(f"  {run} ({unit.format(score)}):{output}")
    return "\n".join(shown)


def _largest(scores: Sequence[Sequence[float]], number: int) -> list[int]:
    """Returns the places at which two lists differ most, none where they are equal."""
    differences = [abs(one - other) for one, other in zip(*scores, strict=True)]
    places = sorted(range(len(differences)), key=lambda place: -differences[place])
    return [place for place in places[:number] if differences[place]]


def _config_of(run: Path, options: Mapping[str, Any]) -> "Config":
    from seq2seq_kit.config import DecodingConfig, load_saved_config
    from seq2seq_kit.pretrained.catalog import run_path
    from seq2seq_kit.training.run_folder import RunFolder

    folder = RunFolder(run_path(run)).open_trained()
    config = load_saved_config(folder.config).config
    config.decoding.override(**{name: options[name] for name in DecodingConfig.model_fields})
    return config


def _check_alike(runs: Sequence[Path], configs: "Sequence[Config]", tokenize: str | None) -> None:
    """Raises InputError if the runs have other tasks, spellings or BLEU tokenizers."""
    for run, config in zip(runs[1:], configs[1:], strict=True):
        for what, kinds, cure in (
            ("tasks", [_task(configs[0]), _task(config)], "Compare runs of one task."),
            (
                "spellings of their outputs (tokenizer.normalization)",
                [_normalization(configs[0]), _normalization(config)],
                "Their outputs would be compared with different references.",
            ),
            (
                "tokenizers for BLEU (data.bleu_tokenize)",
                [tokenize or one.data.bleu_tokenize for one in (configs[0], config)],
                "Give one with --tokenize.",
            ),
        ):
            if kinds[0] != kinds[1]:
                raise InputError(
                    f"The runs have different {what}: {runs[0]} has {kinds[0]}, {run} has "
                    f"{kinds[1]}. {cure}"
                )


def _task(config: "Config") -> str:
    prompts = "" if config.joins_texts or config.task == "translation" else " of pairs"
    return f"{config.task}{prompts}"


def _normalization(config: "Config") -> str:
    return next(
        vocabulary.normalization
        for side, vocabulary in config.tokenizer.vocabularies()
        if side != "source"
    )


def _test_corpora(
    runs: Sequence[Path], configs: "Sequence[Config]", option: str
) -> "tuple[CorpusConfig, ...]":
    """Returns the test data of the runs' configs.

    Raises:
        InputError: If one has none, or their texts differ.
    """
    from seq2seq_kit.digests import FileDigests

    digests, first = FileDigests(), None
    for run, config in zip(runs, configs, strict=True):
        if config.data.test is None:
            raise InputError(f"The config of {run} has no `data.test`. Give test data: {option}.")
        texts = [
            [
                digests.of(path) if isinstance(path, Path) else path
                for _, path in sorted(dict(corpus).items())
            ]
            for corpus in config.data.test
        ]
        first = first or texts
        if texts != first:
            raise InputError(
                f"{runs[0]} and {run} have different test data. Give the same for both: {option}."
            )
    return configs[0].data.test or ()


def _compare_outputs(
    runs: Sequence[Path],
    given: _Given,
    configs: "Sequence[Config]",
    long_lines: str,
    options: Mapping[str, Any],
) -> _Outputs:
    """Returns the outputs of all runs, each as its tokenizer spells them."""
    corpora = () if given.is_any else _test_corpora(runs, configs, "--source, --reference or --tsv")
    where = given.tsv or given.source or next(iter(corpora[0].files))
    if corpora:
        long_lines = "truncate"  # As at the end of training, where the data are those of configs.
    models = (_load(run) for run in runs)  # One at a time is in memory.
    answers: list[SourceWithReferences] = []
    references: list[list[str]] = []
    by_run = {}
    for run, model in zip(runs, models, strict=True):
        normalize = model.tokenizer.normalize
        answers = answers or _answers(given, corpora, configs[0], model)
        references = references or [list(map(normalize, one.references)) for one in answers]
        sources = [one.source for one in answers]
        check_lengths(model, sources, [one.line for one in answers], where, long_lines)
        outputs = [best for best, *_ in model.hypotheses(sources, truncate=True, **options)]
        by_run[str(run)] = [normalize(output.text) for output in outputs]
    return _Outputs(answers, references, by_run)


def _answers(
    given: _Given, corpora: "Sequence[CorpusConfig]", config: "Config", model: "Seq2Seq"
) -> "list[SourceWithReferences]":
    from seq2seq_kit.text.corpus import BadRow, read_corpus
    from seq2seq_kit.text.references import (
        SourceWithReferences,
        read_parallel_references,
        read_table_references,
    )

    if given.source is not None:
        return read_parallel_references(given.source, given.references)
    if given.tsv is not None:
        return read_table_references(
            given.tsv, config.data.train[0], model.source_tokenizer.normalize
        )
    return [
        SourceWithReferences(pair.line, pair.source, [pair.target])
        for corpus in corpora
        for pair in read_corpus(corpus)
        if not isinstance(pair, BadRow)
    ]


def _compare_losses(
    runs: Sequence[Path], text: Path | None, configs: "Sequence[Config]"
) -> _Losses:
    """Returns the losses of all runs on the lines that each of them scores."""
    from seq2seq_kit.config import CorpusConfig
    from seq2seq_kit.text.corpus import read_corpus

    corpora = [CorpusConfig(lines=text)] if text else _test_corpora(runs, configs, "--text")
    lines = [pair.target for corpus in corpora for pair in read_corpus(corpus)]
    if not any(lines):
        raise InputError("Expected at least one line of test data. Found: none.")
    scores = {}
    for run in runs:
        model = _load(run)
        if model.config.reads_streams:
            scores[str(run)] = model.score_text(lines)
        else:
            scores[str(run)] = model.score([""] * len(lines), lines)
        normalize = model.tokenizer.normalize
    # A line that separates texts has no tokens.
    kept = [
        place
        for place in range(len(lines))
        if all(one[place].num_tokens for one in scores.values())
    ]
    return _Losses(
        [normalize(lines[place]) for place in kept],
        {name: [-one[place].log_prob for place in kept] for name, one in scores.items()},
    )


def _load(run: Path) -> "Seq2Seq":
    from seq2seq_kit import Seq2Seq
    from seq2seq_kit.startup import compute_operations_on_one_thread

    compute_operations_on_one_thread()
    return Seq2Seq.load(run)


def _table(names: Sequence[str], comparison: "Comparison") -> str:
    """Returns a row for each run, and for each metric its score, interval and p-value."""
    rows = [["run"], *([name] for name in names)]
    for metric, measured in comparison.scores.items():
        digits = 4 if metric == "loss_per_character" else 2
        rows[0] += [short_label(f"test_{metric}").removeprefix("test "), "95 %", "p"]
        for row, one in zip(rows[1:], measured, strict=True):
            p_value = "-" if one.p_value is None else f"{one.p_value:.4f}"
            row += [f"{one.score:.{digits}f}", f"± {one.interval:.{digits}f}", p_value]
    return columns(rows)
