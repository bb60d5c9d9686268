"""The group of commands, and what every command shares: its errors, exit codes and streams.

Text goes to standard output, the log to standard error.
"""

import signal
import sys
import traceback
from collections.abc import Sequence

import click

from seq2seq_kit.cli.augment import augment
from seq2seq_kit.cli.compare import compare
from seq2seq_kit.cli.distill import distill
from seq2seq_kit.cli.evaluate import evaluate
from seq2seq_kit.cli.exit_codes import FAILED, SIGNALED, WRONG_USAGE
from seq2seq_kit.cli.export import export
from seq2seq_kit.cli.fit import fit
from seq2seq_kit.cli.generate import generate
from seq2seq_kit.cli.info import info
from seq2seq_kit.cli.init import init
from seq2seq_kit.cli.models import models
from seq2seq_kit.cli.options import Session, debug_option
from seq2seq_kit.cli.rerank import rerank
from seq2seq_kit.cli.runs import runs
from seq2seq_kit.cli.score import score
from seq2seq_kit.cli.serve import serve
from seq2seq_kit.cli.speak import speak
from seq2seq_kit.cli.text_io import NO_OUTPUT
from seq2seq_kit.cli.verify import verify
from seq2seq_kit.errors import InputError, RunError
from seq2seq_kit.interruption import catch_signals
from seq2seq_kit.startup import open_standard_streams, show_log

_PRINTING = (
    "evaluate",
    "score",
    "info",
    "models",
    "runs",
    "verify",
)  # useless without standard output


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `s2s` and returns its exit code.

    Args:
        argv: The arguments after the command's name; by default those of the process.

    Returns:
        0 for success, 1 for a failure, 2 for wrong usage, config or input; 130, 143 or 129 if
        interrupted by Ctrl-C, SIGTERM or SIGHUP.
    """
    open_standard_streams()
    with catch_signals():
        return _run(argv) or _flush()


def _run(argv: Sequence[str] | None) -> int:
    session = Session()
    try:
        return cli.main(argv, prog_name="s2s", standalone_mode=False, obj=session) or 0
    except SystemExit:
        # click raises this when the reader of our output has gone, as `head` does once it has
        # enough.
        return 0
    except Exception as error:
        if session.debug:
            traceback.print_exception(error)
        message, code = _explain(error)
        click.echo(f"s2s: error: {message}", err=True)
        return code


def _flush() -> int:
    """Writes what is left in the buffer of standard output; returns the exit code."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        sys.stdout = None  # Otherwise Python would fail on it again at exit.
        if isinstance(error, BrokenPipeError):
            return 0
        message, code = _explain(error)
        click.echo(f"s2s: error: standard output: {message}", err=True)
        return code
    return 0


def _explain(error: Exception) -> tuple[str, int]:
    """Returns the message for the user about an error, and the exit code."""
    match error:
        case click.Abort():
            number = getattr(error.__cause__, "signal", signal.SIGINT)
            name = "" if number == signal.SIGINT else f" by {number.name}"
            return f"interrupted{name}.", SIGNALED + number
        case click.ClickException():
            usage = getattr(error, "ctx", None)
            hint = f" See `{usage.command_path} --help`." if usage else ""
            return f"{error.format_message()}{hint}", WRONG_USAGE
        case InputError():
            return str(error), WRONG_USAGE
        case RunError():
            return str(error), FAILED
        case OSError() if error.filename:
            return f"{error.filename}: {error.strerror}. Fix that and try again.", FAILED
        case OSError():
            return f"{error.strerror or error}.", FAILED
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return (
            "out of memory. Lower --batch-size, --beam-size, --num-hypotheses or --max-length; in "
            "training, training.batch_size or the sizes under `model`.",
            FAILED,
        )
    # Unforeseen. TensorFlow's messages run to pages; the first line says the most.
    first_line = next(iter(str(error).strip().split("\n")))
    return f"{type(error).__name__}: {first_line} (--debug shows where)", FAILED


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(None, "--version", package_name="seq2seq_kit", message="s2s %(version)s")
@debug_option
@click.pass_context
def cli(context: click.Context) -> None:
    """Train LSTM models that turn lines into lines (translation) or continue prompts.

    \b
    s2s init starter                               write two example configs with their data
    s2s fit starter/translation.yaml               train; the model goes to runs/translation
    s2s generate runs/translation < in > out       write one output line for each input line
    """  # noqa: D301 (click wants the control character itself: it keeps the lines as they are)
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(WRONG_USAGE)
    if sys.stdout is None and context.invoked_subcommand in _PRINTING:
        raise InputError(NO_OUTPUT)
    show_log(force=True)


_COMMANDS = (
    *(fit, distill, generate, evaluate, compare, score, rerank, augment, export, verify),
    *(serve, speak, init, info, runs, models),
)
for _command in _COMMANDS:
    cli.add_command(_command)
