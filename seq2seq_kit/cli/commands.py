"""The command `s2s`: arguments in, exit code out. One function a subcommand, no work of its own.

Only click is imported at start, so that help comes at once: each command imports what it needs,
TensorFlow last. Text goes to standard output, the log to standard error.
"""

import functools
import math
import os
import shlex
import signal
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from seq2seq_kit import bounds
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.interruption import catch_signals
from seq2seq_kit.startup import load_tensorflow, open_standard_streams, show_log

if TYPE_CHECKING:
    from seq2seq_kit.export.folder import LongLines
    from seq2seq_kit.export.saved_model import ExportedModel
    from seq2seq_kit.inference.generator import Hypothesis
    from seq2seq_kit.seq2seq import Seq2Seq

_FAILED, _WRONG_USAGE = 1, 2
_PRINTING = ("evaluate", "score", "info")  # They do nothing else.
_SIGNALED = 128  # A shell adds the number of the signal: 130 for Ctrl-C.
_SHOWN_LINES = 20
_NO_METADATA = "This export was made before exports said anything of themselves."


class _UserPath(click.Path):
    """A path in which `~` is a home folder, though a shell left it: `--run-dir=~/run`."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        from seq2seq_kit.files import user_path

        try:
            return user_path(str(super().convert(value, param, ctx)))
        except InputError as error:
            self.fail(str(error), param, ctx)


_FILE = _UserPath(path_type=Path)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `s2s` and returns its exit code.

    Args:
        argv: The arguments after the command's name; None takes those of the process.

    Returns:
        0 done, 1 failed, 2 wrong usage, config or input; 130, 143 or 129 interrupted by Ctrl-C,
        SIGTERM or SIGHUP.
    """
    open_standard_streams()
    with catch_signals():
        return _main(argv) or _flush()


def _flush() -> int:
    """Writes what standard output still holds; returns the exit code."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        sys.stdout = None  # Python would fail at it once more.
        if isinstance(error, BrokenPipeError):
            return 0
        message, code = _explain(error)
        click.echo(f"s2s: error: standard output: {message}", err=True)
        return code
    return 0


def _main(argv: Sequence[str] | None) -> int:
    session = _Session()
    try:
        return cli.main(argv, prog_name="s2s", standalone_mode=False, obj=session) or 0
    except SystemExit:
        # click's answer to a reader of our output that went away, such as `head`: it has enough.
        return 0
    except Exception as error:
        if session.debug:
            traceback.print_exception(error)
        message, code = _explain(error)
        click.echo(f"s2s: error: {message}", err=True)
        return code


def _explain(error: Exception) -> tuple[str, int]:
    """Returns what to tell the user about an error, and the exit code."""
    match error:
        case click.Abort():
            number = getattr(error.__cause__, "signal", signal.SIGINT)
            name = "" if number == signal.SIGINT else f" by {number.name}"
            return f"interrupted{name}.", _SIGNALED + number
        case click.ClickException():
            usage = getattr(error, "ctx", None)
            hint = f" See `{usage.command_path} --help`." if usage else ""
            return f"{error.format_message()}{hint}", _WRONG_USAGE
        case InputError():
            return str(error), _WRONG_USAGE
        case RunError():
            return str(error), _FAILED
        case OSError() if error.filename:
            return f"{error.filename}: {error.strerror}. Mend that and try again.", _FAILED
        case OSError():
            return f"{error.strerror or error}.", _FAILED
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return (
            "out of memory. Lower --batch-size, --beam-size, --num-hypotheses or --max-length; in "
            "training, training.batch_size or the sizes under `model`.",
            _FAILED,
        )
    # Unforeseen: TensorFlow's messages run over pages, of which the first line says the most.
    first_line = next(iter(str(error).strip().split("\n")))
    return f"{type(error).__name__}: {first_line} (--debug shows where)", _FAILED


@dataclass
class _Session:
    """What the options that every command has have set."""

    debug: bool = False


def _set_debug(context: click.Context, _option: click.Parameter, debug: bool) -> None:
    if debug:
        context.find_root().obj.debug = True


def _check_text(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """Returns a text from the command line, which is UTF-8 whatever the locale.

    What Python could not decode by the locale it keeps as surrogates.
    """
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(text or "").decode()
        except UnicodeError as error:
            raise click.BadParameter(f"must be UTF-8. Received: {text!r}.") from error
    return text


_debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_set_debug,
    help="Show the traceback of an error.",
)
_run_argument = click.argument("run", type=_FILE)
_long_lines_option = click.option(
    "--long-lines",
    type=click.Choice(["error", "truncate"]),
    default="error",
    show_default=True,
    help="What becomes of inputs that are too long.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(None, "--version", package_name="seq2seq_kit", message="s2s %(version)s")
@_debug_option
@click.pass_context
def cli(context: click.Context) -> None:
    """Learns to turn lines into lines (translation) or to continue prompts (continuation).

    \b
    s2s init starter                               write two configs that run, with their data
    s2s fit starter/translation.yaml               train; the model goes to runs/translation
    s2s generate runs/translation < in > out       a line out for each line in
    """  # noqa: D301 (click wants the control character itself: it keeps the lines as they are)
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(_WRONG_USAGE)
    if sys.stdout is None and context.invoked_subcommand in _PRINTING:
        from seq2seq_kit.cli.text_io import NO_OUTPUT

        raise InputError(NO_OUTPUT)
    show_log(force=True)


@functools.cache
def _search_options() -> list[click.Parameter]:
    """Returns an option for each field of `DecodingConfig`: None where it is not given."""
    from seq2seq_kit.config import DecodingConfig

    options: list[click.Parameter] = []
    for name, field in DecodingConfig.model_fields.items():
        dashed = name.replace("_", "-")
        choices = typing.get_args(field.annotation)
        options.append(
            click.Option(
                [f"--{dashed}/--no-{dashed}" if field.annotation is bool else f"--{dashed}"],
                type=click.Choice(choices) if choices else field.annotation,
                default=None,
                callback=_check_search_option,
                help=field.description,
            )
        )
    return options


def _check_search_option(_context: click.Context, option: click.Parameter, value: Any) -> Any:
    from seq2seq_kit.config import DecodingConfig

    try:
        DecodingConfig().override(**{str(option.name): value})
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    return value


class _SearchCommand(click.Command):
    """A command with the options of a search, which are made from the config's on first use."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, help_option = super().get_params(ctx)
        return [*own, *_search_options(), help_option]


def _command(function: Callable[..., Any]) -> click.Command:
    return cli.command()(_debug_option(function))


def _search_command(function: Callable[..., Any]) -> click.Command:
    return cli.command(cls=_SearchCommand)(_debug_option(function))


@_command
@click.argument("config", type=_FILE, metavar="CONFIG.yaml")
@click.option("--run-dir", type=_FILE, metavar="DIR", help="Where the run goes. [runs/CONFIG]")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override a key of the config, value in YAML: training.epochs=3. May be repeated.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in the run folder.")
def fit(config: Path, run_dir: Path | None, overrides: tuple[str, ...], resume: bool) -> int:
    """Train a model as CONFIG.yaml says.

    Trains the tokenizer if the config names no ready one, prepares the data, trains, keeps the
    best checkpoint and prints the results. What the config leaves out is chosen to suit the data
    and printed. Ctrl-C, SIGTERM and SIGHUP save and stop; --resume goes on. Relative paths in the
    config and in --set are taken from the config file's folder.
    """
    from seq2seq_kit.config import load_config
    from seq2seq_kit.errors import TrainingInterrupted

    load_config(config, overrides)  # What is wrong is said before TensorFlow takes its seconds.
    run_dir = run_dir or Path("runs", config.stem)
    try:
        fitted = _load_seq2seq().fit(config, overrides=overrides, run_dir=run_dir, resume=resume)
    except TrainingInterrupted as error:
        settings = [argument for override in overrides for argument in ("--set", override)]
        again = ["s2s", "fit", str(config), "--run-dir", str(run_dir), *settings]
        if error.can_resume:
            message = f"Resume it with: {shlex.join([*again, '--resume'])}"
        else:
            message = f"Start it again with: {shlex.join(again)}"
        click.echo(f"{error} {message}", err=True)
        return _SIGNALED + error.signal
    click.echo(_table(fitted.results))
    try_it = shlex.join(["s2s", "generate", str(run_dir), "--prompt"])
    click.echo(f"Try it: {try_it} TEXT", err=True)
    return 0


@_search_command
@_run_argument
@click.argument("input_path", type=_FILE, required=False, metavar="[INPUT]")
@click.option("-o", "--output", type=_FILE, help="Write here, whole or not at all.")
@click.option(
    "--num-hypotheses",
    type=click.IntRange(1, bounds.MAX_BEAM_SIZE),
    help="TSV with this many outputs a line, at most as many as the beam holds.",
)
@click.option("--scores", is_flag=True, help="TSV: line, rank, score, text, `cut` or `ended`.")
@click.option(
    "--prompt", metavar="TEXT", callback=_check_text, help="Use this text as the only input."
)
@click.option("--echo", is_flag=True, help="Put the input before its output.")
@_long_lines_option
def generate(
    run: Path,
    input_path: Path | None,
    output: Path | None,
    num_hypotheses: int | None,
    scores: bool,
    prompt: str | None,
    echo: bool,
    long_lines: str,
    **options: Any,
) -> None:
    r"""Write an output for each line of INPUT, or of standard input.

    RUN is a run folder or an exported SavedModel. Outputs come in the order of the inputs, a line
    each: a newline inside an output is written \n and a backslash doubled, except for --prompt.
    What is not given is as the run's config says.
    """
    from seq2seq_kit.cli.text_io import as_line, as_text, as_tsv, open_output, read_in_chunks

    if prompt is not None and input_path is not None:
        raise click.UsageError(f"Expected INPUT or --prompt. Received both, INPUT: {input_path}.")
    _check_output_is_not_input(input_path, output)
    chunks = read_in_chunks(input_path) if prompt is None else iter([(1, [prompt])])
    plain = as_line if prompt is None else as_text
    layout = as_tsv if scores or num_hypotheses is not None else plain
    truncate = long_lines == "truncate"
    searches_as_set = all(value is None for value in options.values())
    num_truncated = num_outputs = num_cut = 0
    with open_output(output) as file:
        model = _load_generator(run, is_fixed=not truncate and searches_as_set)
        for first_line, chunk in chunks:
            found = model.hypotheses(
                chunk,
                num_hypotheses=num_hypotheses or 1,
                truncate=truncate,
                first_line=first_line,
                **options,
            )
            for line, (text, hypotheses) in enumerate(zip(chunk, found, strict=True), first_line):
                file.write(layout(line, text if echo else "", hypotheses).encode())
                num_outputs += len(hypotheses)
                num_cut += sum(one.is_cut for one in hypotheses)
            file.flush()
            num_truncated += _count_overlong(model, chunk) if truncate else 0
    if truncate:
        click.echo(f"{num_truncated} over-long inputs were truncated.", err=True)
    elif marked := getattr(model, "marked_lines", None):
        click.echo(
            f"Over-long inputs, which have an empty output: {_list_numbers(marked)}.", err=True
        )
    if num_cut:
        _report_cut(model, num_cut, num_outputs, options["max_length"])


@_search_command
@_run_argument
@click.option("--source", type=_FILE, help="The inputs, one a line.")
@click.option(
    "--reference", "references", type=_FILE, multiple=True, help="The right outputs; repeatable."
)
@click.option("--tsv", type=_FILE, help="Inputs and right outputs; rows of one input are choices.")
@click.option(
    "--tokenize",
    type=click.Choice(["13a", "intl", "zh", "char", "none"]),
    help="sacrebleu's tokenizer for BLEU. [as the config says]",
)
@_long_lines_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def evaluate(
    run: Path,
    source: Path | None,
    references: tuple[Path, ...],
    tsv: Path | None,
    tokenize: str | None,
    long_lines: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare outputs with references.

    Prints BLEU and chrF with sacrebleu's signatures, exact match and perplexity.

    Give --source and --reference, line by line, or --tsv, where the rows of one input are its
    several right answers. The columns of --tsv are those of the run's training TSV if it had one,
    else 1 and 2. The perplexity is that of the first reference.
    """
    if (source is None) == (tsv is None) or bool(references) != (source is not None):
        raise click.UsageError("Expected either --source with --reference, or --tsv.")
    import json

    model = _load_model(run)
    answers = _read_answers(tsv, model) if tsv else _read_references(source, references)
    if not answers:
        raise InputError(f"{tsv or source}: expected at least one line to evaluate. Found: none.")
    _check_lengths(model, answers, tsv or source, long_lines)
    results = _evaluate(model, answers, tokenize, options)
    click.echo(json.dumps(results, indent=2) if as_json else _table(results))


@_command
@_run_argument
@click.option("--source", type=_FILE, help="The inputs, one a line.")
@click.option("--target", type=_FILE, help="Their outputs, line by line with --source.")
@click.option("--text", type=_FILE, help="Continuation: texts on their own, one a line.")
@_long_lines_option
def score(
    run: Path, source: Path | None, target: Path | None, text: Path | None, long_lines: str
) -> None:
    """Write how likely given outputs are.

    A line for each: log-probability in nats and number of tokens, with a tab between. The
    perplexities of the whole go to standard error, per token, per whitespace word and per
    character, so that models with other vocabularies compare.
    """
    if (text is None) == (source is None) or (source is None) != (target is None):
        raise click.UsageError("Expected either --source with --target, or --text.")
    from seq2seq_kit.config import CorpusConfig
    from seq2seq_kit.text.corpus import read_corpus

    pairs = list(read_corpus(CorpusConfig(source=source, target=target, lines=text)))
    model = _load_model(run)
    if text is not None and model.config.task != "continuation":
        raise click.UsageError(f"--text is for continuation; {run} translates: give --source.")
    from seq2seq_kit.inference.scorer import perplexity

    answers = [_Answers(pair.line, pair.source, [pair.target]) for pair in pairs]
    _check_lengths(model, answers, source, long_lines)
    targets = [pair.target for pair in pairs]
    scores = model.score([pair.source for pair in pairs], targets, truncate=True)
    for line in scores:
        click.echo(f"{line.log_prob:.6f}\t{line.num_tokens}")
    whole = perplexity(scores, list(map(model.tokenizer.normalize, targets)))
    click.echo(
        f"{len(scores)} lines; perplexity {whole.per_token:.6g} per token,"
        f" {whole.per_word:.6g} per word, {whole.per_character:.6g} per character",
        err=True,
    )


@_search_command
@_run_argument
@click.argument("folder", type=_FILE, metavar="DIR")
@click.option(
    "--long-lines",
    type=click.Choice(["error", "truncate", "mark"]),
    default="error",
    show_default=True,
    help="What becomes of inputs that are too long: an error costs their batch, a mark is an empty"
    " output with the score -inf.",
)
def export(run: Path, folder: Path, long_lines: "LongLines", **options: Any) -> None:
    """Write a SavedModel, text in and text out.

    Tokenizer and search are inside: it runs with nothing but tensorflow and tensorflow_text, and
    is compared with the model before the command ends. Its search is fixed: what is not given is
    as the run's config says. `s2s info DIR` prints what it says of itself.
    """
    from seq2seq_kit.export.folder import check_unused

    check_unused(folder)  # Before TensorFlow takes its seconds.
    model = _load_model(run)
    model.export(folder, long_lines=long_lines, **options)
    click.echo(f"The SavedModel is in {folder}.", err=True)


@_command
@click.argument("folder", type=_FILE, metavar="DIR")
def init(folder: Path) -> None:
    """Write configs that run, and their data, to DIR."""
    from seq2seq_kit.samples import write_starter

    configs = write_starter(folder)
    click.echo("Written; train with one of these:", err=True)
    for config in configs:
        click.echo(shlex.join(["s2s", "fit", str(config)]))


@_command
@_run_argument
def info(run: Path) -> None:
    """Show what a run folder or an exported SavedModel holds.

    Config, vocabulary, parameters a layer, which LSTM kernel this machine would use, the history
    of validations, the results, and what to change if they are poor; of an export what it says of
    itself.
    """
    from seq2seq_kit.export.folder import as_json, check_digests, is_export, read_metadata
    from seq2seq_kit.training.run_folder import RunFolder

    if is_export(run):
        check_digests(run)
        metadata = read_metadata(run)
        click.echo(as_json(metadata) if metadata else _NO_METADATA, nl=not metadata)
        return

    folder = RunFolder(run).open_trained()
    model = _load_model(run)
    click.echo(folder.config.read_text(encoding="utf-8"))
    click.echo(_table(_describe_model(model)))
    for record in model.history:
        click.echo("  ".join(f"{name} {_format(value)}" for name, value in record.items()))
    if model.results:
        click.echo(_table(model.results))
    else:
        click.echo(
            f"No results: training has not ended, or {folder.results.name} is missing.", err=True
        )
    for sentence in model.advice():
        click.echo(f"Advice: {sentence}")


def _check_output_is_not_input(source: Path | None, output: Path | None) -> None:
    """Refuses to replace the inputs by their outputs; both may be the same device or terminal."""
    if source is None or output is None or not (source.is_file() and output.is_file()):
        return
    if source.samefile(output):
        raise click.UsageError(
            f"--output must be another file than INPUT, which it would replace. Received: {output}"
            " for both."
        )


def _load_seq2seq() -> "type[Seq2Seq]":
    load_tensorflow()
    from seq2seq_kit.seq2seq import Seq2Seq

    return Seq2Seq


def _load_model(run: Path) -> "Seq2Seq":
    return _load_seq2seq().load(run)


def _load_generator(run: Path, *, is_fixed: bool) -> "Seq2Seq | _Export":
    """Returns the model of a run folder, or what stands for it of a SavedModel.

    Args:
        run: Either folder.
        is_fixed: Whether no option asks for another search than the one fixed in a SavedModel.
    """
    from seq2seq_kit.export.folder import is_export

    if not is_export(run):
        return _load_model(run)
    if not is_fixed:
        raise click.UsageError(
            f"{run} is an exported SavedModel, whose search is fixed: of the options it takes"
            " --output, --num-hypotheses, --scores, --prompt and --echo. Export the run again with"
            " other options, or generate from it."
        )
    _load_seq2seq()
    from seq2seq_kit.export.saved_model import ExportedModel

    return _Export(ExportedModel(run))


class _Export:
    """A SavedModel that answers as `Seq2Seq.hypotheses` does.

    Args:
        model: The loaded SavedModel.
    """

    def __init__(self, model: "ExportedModel") -> None:
        self._model = model
        self.marked_lines: list[int] = []
        """The numbers of the lines for which it had no answer."""

    def hypotheses(
        self, texts: Sequence[str], *, num_hypotheses: int, first_line: int, **_fixed: Any
    ) -> "list[list[Hypothesis]]":
        found = self._model.hypotheses(texts, num_hypotheses=num_hypotheses, first_line=first_line)
        self.marked_lines += [
            line for line, (best, *_) in enumerate(found, first_line) if best.score == -math.inf
        ]
        return found


def _list_numbers(lines: Sequence[int]) -> str:
    """Returns how many lines there are and their numbers, the first ones if they are many."""
    shown = ", ".join(map(str, lines[:_SHOWN_LINES]))
    return f"{len(lines)} (line {shown}{', ...' if len(lines) > _SHOWN_LINES else ''})"


def _report_cut(model: Any, num_cut: int, num_outputs: int, max_length: int | None) -> None:
    """Says how many outputs the limit cut, unless it is the usual end, as of continuations."""
    from seq2seq_kit.training.advice import describe_cut

    if not isinstance(model, _Export) and model.config.task == "translation":
        limit = max_length or model.config.decoding.max_length
        click.echo(describe_cut(num_cut, num_outputs, limit), err=True)


def _count_overlong(model: Any, texts: Sequence[str]) -> int:
    limit = model.config.data.max_source_length
    return sum(len(ids) > limit for ids in model.source_tokenizer.encode(texts))


class _Answers(NamedTuple):
    """An input and what is right for it."""

    line: int  # the number of its line, or of the first one with it
    source: str
    references: list[str]


def _check_lengths(
    model: "Seq2Seq", answers: Sequence[_Answers], path: Path | None, long_lines: str
) -> None:
    """Refuses over-long inputs by file and line, or says how many will be truncated."""
    limit = model.config.data.max_source_length
    rows = model.source_tokenizer.encode([answer.source for answer in answers])
    too_long = [
        (answer, row) for answer, row in zip(answers, rows, strict=True) if len(row) > limit
    ]
    if long_lines == "truncate":
        click.echo(f"{len(too_long)} over-long inputs were truncated.", err=True)
    elif too_long:
        answer, row = too_long[0]
        raise InputError(
            f"{path}, line {answer.line}: has {len(row)} tokens; the model takes at most {limit} "
            f"(data.max_source_length). Split the line, or use --long-lines truncate."
        )


def _read_references(source: Path | None, references: Sequence[Path]) -> list[_Answers]:
    """Returns each input with its references, one from each file."""
    from seq2seq_kit.config import CorpusConfig
    from seq2seq_kit.files import why_not_regular
    from seq2seq_kit.text.corpus import read_corpus

    if source is not None and len(references) > 1 and (reason := why_not_regular(source)):
        raise InputError(f"{source}: is read once for each reference, but {reason}.")
    corpora = [read_corpus(CorpusConfig(source=source, target=path)) for path in references]
    return [
        _Answers(pairs[0].line, pairs[0].source, [pair.target for pair in pairs])
        for pairs in zip(*corpora, strict=True)
    ]


def _read_answers(tsv: Path, model: "Seq2Seq") -> list[_Answers]:
    """Returns each input of a TSV with all its right outputs, in the order of the inputs."""
    from seq2seq_kit.config import CorpusConfig
    from seq2seq_kit.text.corpus import BadRow, read_corpus

    trained_on = model.config.data.train[0]
    columns = trained_on if trained_on.kind == "tsv" else CorpusConfig(tsv=tsv)
    answers: dict[str, _Answers] = {}
    pairs = list(read_corpus(columns.model_copy(update={"tsv": tsv})))
    if bad := [str(pair.line) for pair in pairs if isinstance(pair, BadRow)]:
        shown = ", ".join(bad[:5]) + ", ..." * (len(bad) > 5)
        click.echo(
            f"{tsv}: {len(bad)} rows with another number of columns were skipped (lines {shown}).",
            err=True,
        )
    for pair in pairs:
        if pair.source or pair.target:  # else a blank line, such as the last one often is
            source = model.source_tokenizer.normalize(pair.source)
            answer = answers.setdefault(source, _Answers(pair.line, source, []))
            answer.references.append(pair.target)
    return list(answers.values())


def _evaluate(
    model: "Seq2Seq",
    answers: Sequence[_Answers],
    tokenize: str | None,
    options: Mapping[str, Any],
) -> dict[str, float | str]:
    import dataclasses

    from seq2seq_kit.inference.scorer import perplexity

    sources = [answer.source for answer in answers]
    references = [answer.references for answer in answers]
    firsts = [texts[0] for texts in references]
    # What is over-long has been refused, or may be truncated.
    quality = model.evaluate(sources, references, tokenize=tokenize, truncate=True, **options)
    if quality.cut_outputs:
        _report_cut(model, quality.cut_outputs, quality.num_lines, options["max_length"])
    surprise = perplexity(
        model.score(sources, firsts, truncate=True), list(map(model.tokenizer.normalize, firsts))
    )
    return dataclasses.asdict(quality) | {
        f"perplexity_{unit}": value for unit, value in dataclasses.asdict(surprise).items()
    }


def _describe_model(model: "Seq2Seq") -> dict[str, Any]:
    import tensorflow as tf

    from seq2seq_kit.model.precision import has_bfloat16

    gpus = tf.config.list_physical_devices("GPU")
    described: dict[str, Any] = {
        "source vocabulary": model.source_tokenizer.vocab_size,
        "target vocabulary": model.tokenizer.vocab_size,
    }
    for layer in model.model.layers:
        described[f"parameters of {layer.name}"] = layer.count_params()
    described["parameters"] = model.model.count_params()
    described["LSTM kernel here"] = "cuDNN" if gpus else "FastLSTM's loop on the CPU (no GPU)"
    described["bfloat16 on this processor"] = {True: "fast", False: "slow", None: "not known"}[
        has_bfloat16()
    ]
    return described


def _table(values: dict[str, Any]) -> str:
    """Returns one value a line, in two columns."""
    width = max(map(len, values))
    return "\n".join(f"{name:<{width}}  {_format(value)}" for name, value in values.items())


def _format(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
