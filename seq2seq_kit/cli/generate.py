"""`s2s generate`: writes an output for each input line."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from seq2seq_kit import bounds
from seq2seq_kit.cli.lengths import describe_truncated
from seq2seq_kit.cli.loading import load_run_or_export, load_runs
from seq2seq_kit.cli.options import (
    FILE,
    SearchCommand,
    check_against_config,
    check_text,
    debug_option,
    long_lines_option,
    run_argument,
)
from seq2seq_kit.cli.text_io import (
    STANDARD_STREAM,
    as_line,
    as_text,
    as_tsv,
    escape,
    has_many_lines,
    open_output,
    read_in_chunks,
)
from seq2seq_kit.errors import InputError

if TYPE_CHECKING:
    from seq2seq_kit.inference.generator import Hypothesis

_SHOWN_LINES = 20

# Of the options of a search.
_OPTIONS_OF_EXPORTS = {"sample", "seed", "threads"}

_STREAM_IS_PLAIN = (
    "--stream writes plain text to standard output. Leave --output, --scores, --num-hypotheses and "
    "--alignments out."
)


@click.command(cls=SearchCommand)
@run_argument
@click.argument("others", type=FILE, nargs=-1, metavar="[RUN]... [INPUT]")
@click.option(
    "-o",
    "--output",
    type=FILE,
    help="Write to this file, which appears when all outputs are in it.",
)
@click.option(
    "--num-hypotheses",
    type=click.IntRange(1, bounds.MAX_BEAM_SIZE),
    help="Write a TSV with this many outputs for each input: samples, or the best of the beam.",
)
@click.option(
    "--scores",
    is_flag=True,
    help="Write a TSV: line, number of the output (rank or sample), score, text, `cut` or `ended`.",
)
@click.option("--prompt", metavar="TEXT", callback=check_text, help="Use TEXT as the only input.")
@click.option(
    "--echo",
    is_flag=True,
    help="Write each input before its output; a translation has a tab between them.",
)
@click.option("--prefix", metavar="TEXT", callback=check_text, help="Begin every output with TEXT.")
@click.option(
    "--prefixes",
    type=FILE,
    help="Begin each output with its line of this file. All inputs are read first.",
)
@click.option(
    "--adapt-to",
    type=FILE,
    help="Continue in the manner of this running text: the model learns from it first.",
)
@click.option(
    "--alignments",
    type=FILE,
    help="Write to this file which source word each word of an output comes from, in the Pharaoh "
    "format, a line for each output.",
)
@click.option(
    "--stream",
    is_flag=True,
    help="Write each output piece by piece, as soon as a piece is certain.",
)
@long_lines_option
@debug_option
def generate(
    run: Path,
    others: tuple[Path, ...],
    output: Path | None,
    num_hypotheses: int | None,
    scores: bool,
    prompt: str | None,
    echo: bool,
    prefix: str | None,
    prefixes: Path | None,
    adapt_to: Path | None,
    alignments: Path | None,
    stream: bool,
    long_lines: str,
    **options: Any,
) -> None:
    r"""Write an output for each line of INPUT, or of standard input.

    RUN is a run folder, a packaged model or an exported SavedModel; several run folders with the
    same vocabularies are an ensemble. Outputs come in the order of the inputs, one a
    line: a newline inside an output is written as \n and a backslash as \\, except with --prompt.
    Options that are not given are as in the run's config.
    """
    runs, input_path = _split_arguments(run, others)
    chunks = _read_inputs(input_path, prompt)
    _check_files(input_path, output, alignments)
    plain = as_line if prompt is None else as_text
    layout = as_tsv if scores or num_hypotheses is not None else plain
    given = {name: value for name, value in options.items() if value is not None}
    beginnings = _Beginnings(prefix, prefixes)
    if prefixes is not None:
        chunks = beginnings.check_number(list(chunks))
    if long_lines == "truncate":
        given["truncate"] = True
    check_against_config(run, given)
    if stream:
        if output is not None or layout is as_tsv or alignments is not None:
            raise click.UsageError(_STREAM_IS_PLAIN)
        _stream(
            runs,
            adapt_to,
            chunks,
            echo=echo,
            is_prompt=prompt is not None,
            beginnings=beginnings,
            given=given,
        )
        return
    is_many = prompt is None and has_many_lines(input_path)
    _write_outputs(
        functools.partial(_load, runs, adapt_to, searches_many=is_many or "threads" in given),
        chunks,
        output,
        layout,
        num_hypotheses=num_hypotheses or 1,
        echo=echo,
        beginnings=beginnings,
        alignments=alignments,
        given=given,
    )


def _split_arguments(run: Path, others: Sequence[Path]) -> tuple[list[Path], Path | None]:
    """Returns the runs of an ensemble, and the input if there is one.

    The last argument is the input unless it is a folder or the name of a packaged model.

    Raises:
        UsageError: If another argument is neither.
    """
    from seq2seq_kit.pretrained.catalog import run_path

    *runs, last = [run, *others]
    if others and run_path(last).is_dir():
        runs.append(last)
    for other in runs[1:]:
        if not run_path(other).is_dir():
            raise click.UsageError(
                f"Expected run folders, and INPUT as the last argument. There is no run {other}."
            )
    return (runs, None if runs[-1] == last else last) if others else ([run], None)


def _read_inputs(path: Path | None, prompt: str | None) -> Iterator[tuple[int, list[str]]]:
    """Returns the inputs in chunks, each with the line number of its first."""
    if prompt is None:
        return read_in_chunks(path)
    if path is not None:
        raise click.UsageError(f"Expected INPUT or --prompt. Received both, INPUT: {path}.")
    return iter([(1, [prompt])])


def _write_outputs(
    load: Callable[..., Any],
    chunks: Iterator[tuple[int, list[str]]],
    output: Path | None,
    layout: "Callable[[int, str, list[Hypothesis]], str]",
    *,
    num_hypotheses: int,
    echo: bool,
    beginnings: "_Beginnings",
    alignments: Path | None,
    given: dict[str, Any],
) -> None:
    """Writes the outputs of each chunk of inputs when they are complete, and notices at the end.

    Args:
        load: Returns the model; called once the output is open.
        chunks: Inputs with the line number of the first.
        output: The file; None for standard output.
        layout: Lays out the hypotheses of a line, with the text before them.
        num_hypotheses: Hypotheses of each input.
        echo: Whether to write each input before its output.
        beginnings: The forced beginnings.
        alignments: The file of the alignments; None for none.
        given: The options of the search, and `truncate`.
    """
    counts = _Counts()
    with open_output(output) as file, _open_alignments(alignments) as links:
        needs_run = bool(given.keys() - _OPTIONS_OF_EXPORTS or beginnings or alignments)
        model = load(needs_run=needs_run)
        write_links = _link_writer(model, links, truncate="truncate" in given)
        before = _text_before(model, echo=echo)
        for first_line, chunk in chunks:
            options = given | beginnings.options(len(chunk))
            found = model.hypotheses(
                chunk, num_hypotheses=num_hypotheses, first_line=first_line, **options
            )
            for line, (text, hypotheses) in enumerate(zip(chunk, found, strict=True), first_line):
                file.write(layout(line, before(text), hypotheses).encode())
                write_links(text, hypotheses)
                counts.add(line, hypotheses)
            file.flush()
            if "truncate" in given:
                counts.truncated += len(model.inputs.overlong(chunk))
    for sentence in counts.notices(model, given):
        click.echo(sentence, err=True)


def _text_before(model: Any, *, echo: bool) -> Callable[[str], str]:
    """Returns what gives the text before the output of an input: the input itself with `echo`."""
    if not echo:
        return lambda _: ""
    # A prompt and its continuation are one text.
    separator = "\t" if _task_and_limit(model)[0] == "translation" else ""
    return lambda text: f"{text}{separator}"


def _open_alignments(path: Path | None) -> AbstractContextManager[IO[bytes] | None]:
    """Opens the file of the alignments; None without one."""
    return nullcontext() if path is None else open_output(path)


def _link_writer(
    model: Any, file: IO[bytes] | None, *, truncate: bool
) -> "Callable[[str, Sequence[Hypothesis]], None]":
    """Returns what writes the alignment of each hypothesis of a text; nothing without a file.

    Raises:
        InputError: If the model aligns no words.
    """
    if file is None:
        return lambda _text, _hypotheses: None
    from seq2seq_kit.insight import Aligner

    align = Aligner(model)

    def write(text: str, hypotheses: "Sequence[Hypothesis]") -> None:
        for hypothesis in hypotheses:
            links = align(text, hypothesis, truncate=truncate)
            file.write(f"{links.pharaoh()}\n".encode())

    return write


class _Beginnings:
    """The forced beginning of each output.

    Args:
        prefix: One text for all outputs.
        path: A file with a line for each.

    Raises:
        UsageError: If both are given.
    """

    def __init__(self, prefix: str | None, path: Path | None) -> None:
        if prefix is not None and path is not None:
            raise click.UsageError("Expected --prefix or --prefixes. Received both.")
        self._prefix = prefix
        self._path = path
        self._lines: list[str] = []
        self._num_taken = 0
        if path is not None:
            self._lines = [line for _, chunk in read_in_chunks(path) for line in chunk]

    def __bool__(self) -> bool:
        return self._prefix is not None or self._path is not None

    def options(self, number: int) -> dict[str, list[str]]:
        """Returns the beginnings of the next outputs as an option; nothing where there are none."""
        return {"prefixes": self._take(number)} if self else {}

    def _take(self, number: int) -> list[str]:
        if self._path is None:
            return [self._prefix or ""] * number
        first, self._num_taken = self._num_taken, self._num_taken + number
        return self._lines[first : self._num_taken]

    def check_number(self, chunks: list[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
        """Returns the chunks of all inputs again.

        Raises:
            InputError: If the file does not have as many lines.
        """
        number = sum(len(chunk) for _, chunk in chunks)
        if number != len(self._lines):
            raise InputError(
                f"{self._path} must have a line for each input. It has {len(self._lines)} lines "
                f"for {number} inputs."
            )
        return iter(chunks)


def _stream(
    runs: Sequence[Path],
    adapt_to: Path | None,
    chunks: Iterator[tuple[int, list[str]]],
    *,
    echo: bool,
    is_prompt: bool,
    beginnings: _Beginnings,
    given: Mapping[str, Any],
) -> None:
    """Writes the output of each input piece by piece.

    Args:
        runs: The run folders, those of an ensemble if there are several.
        adapt_to: The text that the model adapts to.
        chunks: Inputs with the line number of the first.
        echo: Whether to write each input before its output.
        is_prompt: Whether newlines are written as they are.
        beginnings: The forced beginnings.
        given: The options of the search, and `truncate`.

    Raises:
        UsageError: If a run is an export.
        InputError: If an input is too long.
    """
    from seq2seq_kit.export.folder import is_export

    if is_export(runs[0]):
        raise click.UsageError(
            f"--stream needs a run folder: an export searches for whole outputs. Received: "
            f"{runs[0]}."
        )
    model = _load(runs, adapt_to, needs_run=True)
    separator = "\t" if model.config.task == "translation" else ""
    with open_output(None) as file:
        for first_line, chunk in chunks:
            for line, text in enumerate(chunk, first_line):
                before = [f"{text}{separator}"] if echo else []
                forced = beginnings.options(1).get("prefixes", [])
                options = {**given, "prefix": forced[0]} if forced else given
                pieces = model.stream(text, first_line=line, **options)
                for piece in itertools.chain(before, pieces):
                    file.write((piece if is_prompt else escape(piece)).encode())
                    file.flush()
                file.write(b"\n")
                file.flush()


@dataclass
class _Counts:
    """Counts of what is reported once all outputs are written."""

    outputs: int = 0
    cut: int = 0
    truncated: int = 0
    unanswered: list[int] = field(default_factory=list)
    """The numbers of the lines that an export marked as too long."""

    def add(self, line: int, hypotheses: "Sequence[Hypothesis]") -> None:
        self.outputs += len(hypotheses)
        self.cut += sum(one.is_cut for one in hypotheses)
        if hypotheses[0].score == -math.inf:
            self.unanswered.append(line)

    def notices(self, model: Any, given: Mapping[str, Any]) -> Iterator[str]:
        """Yields a sentence for each number worth knowing."""
        from seq2seq_kit.training.advice import describe_cut

        # An export that truncates its inputs counts them itself.
        if "truncate" in given or getattr(model, "truncates", False):
            truncated = self.truncated + getattr(model, "num_truncated", 0)
            yield describe_truncated(truncated)
        if self.unanswered:
            shown = ", ".join(map(str, self.unanswered[:_SHOWN_LINES]))
            more = ", ..." * (len(self.unanswered) > _SHOWN_LINES)
            yield (
                f"Over-long inputs, which have an empty output: {len(self.unanswered)} "
                f"(line {shown}{more})."
            )
        task, limit = _task_and_limit(model)
        # A continuation usually ends at the limit.
        if self.cut and task == "translation":
            yield describe_cut(self.cut, self.outputs, given.get("max_length") or limit)


def _task_and_limit(model: Any) -> tuple[str | None, int]:
    """Returns the task of a `Seq2Seq` or `ExportedModel` and the largest length of its outputs.

    An export without metadata has no known task.
    """
    if (metadata := getattr(model, "metadata", None)) is not None:
        return metadata.get("task"), metadata.get("decoding", {}).get("max_length", 0)
    return model.config.task, model.config.decoding.max_length


def _check_files(source: Path | None, output: Path | None, alignments: Path | None) -> None:
    """Raises UsageError if a file would be written over another one of the command.

    Inputs and outputs may be the same device or terminal.
    """
    for path in (source, output):
        if alignments is not None and (alignments == STANDARD_STREAM or _is_same(alignments, path)):
            raise click.UsageError(
                f"--alignments must be a file beside INPUT, --output and standard output. "
                f"Received: {alignments}."
            )
    if output is not None and output != STANDARD_STREAM and _is_same(output, source):
        raise click.UsageError(
            f"--output must be another file than INPUT, which it would replace. Received: {output}"
            " for both."
        )


def _is_same(path: Path, other: Path | None) -> bool:
    """Whether two paths name one file, which may not exist yet."""
    if other is None or (path.exists() and not path.is_file()):
        return False
    return path.samefile(other) if path.exists() and other.exists() else path == other


def _load(
    runs: Sequence[Path], adapt_to: Path | None, *, needs_run: bool, searches_many: bool = False
) -> Any:
    """Returns the `Seq2Seq` of a run folder, or an `ExportedModel`, whose options are fixed.

    Args:
        runs: The run folder or export, or the run folders of an ensemble.
        adapt_to: The text that the model adapts to.
        needs_run: Whether there are options that an export does not have.
        searches_many: Whether there are lines for several threads.

    Raises:
        UsageError: If there are such options for an export or a text for it to adapt to, or an
            export is to be a part of an ensemble.
    """
    from seq2seq_kit.export.folder import is_export

    run, *others = runs
    if others and any(map(is_export, runs)):
        raise click.UsageError(
            "An ensemble is of run folders; an exported SavedModel is used alone. Received an "
            "export among several runs."
        )
    if is_export(run) and (needs_run or adapt_to is not None):
        raise click.UsageError(
            f"{run} is an exported SavedModel, whose search is fixed: it accepts --output, "
            "--num-hypotheses, --scores, --prompt, --echo, --sample, --seed and --threads only. "
            "Export the run again with other options, or generate from the run folder."
        )
    if searches_many and adapt_to is None:  # To adapt is to train, with large operations.
        from seq2seq_kit.startup import compute_operations_on_one_thread

        compute_operations_on_one_thread()
    model: Any = load_runs(runs) if others else load_run_or_export(run)
    if adapt_to is None:
        return model
    from seq2seq_kit.text.lines import read_lines

    return model.adapted(list(read_lines(adapt_to)))
