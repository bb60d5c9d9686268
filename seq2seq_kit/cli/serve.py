"""`s2s serve`: answers HTTP requests with models."""

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seq2seq_kit.cli.loading import load_run_or_export
from seq2seq_kit.cli.options import FILE, debug_option
from seq2seq_kit.errors import InputError

if TYPE_CHECKING:
    from seq2seq_kit.serving.models import ServedModel

logger = logging.getLogger(__name__)


@click.command
@click.argument("runs", metavar="RUN...", type=FILE, nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8501,
    show_default=True,
    help="The port to listen on; 0 for any free one.",
)
@click.option(
    "--token",
    envvar="S2S_TOKEN",
    metavar="TEXT",
    help="Answer only requests with `Authorization: Bearer TEXT`. The environment variable "
    "S2S_TOKEN hides it from other users of the machine.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Answer to this name, too, such as that of a reverse proxy; may be given several times. A "
    "server on the loopback address answers to no other names than that address has. On another "
    "address, every name is allowed unless one is given.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds that a request may take.",
)
@click.option(
    "--queue-size",
    type=click.IntRange(1, 1_000_000),
    default=256,
    show_default=True,
    help="Lines that may wait for a model; further requests get status 503.",
)
@click.option(
    "--max-wait",
    type=click.FloatRange(0, 1000),
    default=5.0,
    show_default=True,
    help="Milliseconds that a request waits for others to share its batch.",
)
@click.option(
    "--max-texts",
    type=click.IntRange(1, 1_000_000),
    default=64,
    show_default=True,
    help="Texts that a request may have.",
)
@click.option(
    "--max-characters",
    type=click.IntRange(1, 1_000_000),
    default=10_000,
    show_default=True,
    help="Characters that a text may have.",
)
@click.option(
    "--max-length",
    type=click.IntRange(1, 1_000_000),
    default=1_000,
    show_default=True,
    help="The largest `max_length` that a request may ask for.",
)
@click.option(
    "--max-beam",
    type=click.IntRange(1, 10_000),
    default=16,
    show_default=True,
    help="The largest `beam_size` and `num_hypotheses` that a request may ask for.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Processes that search, each on one core with all models in its own memory; 1 searches in "
    "the process of the server, with a thread for each core.",
)
@debug_option
def serve(
    runs: Sequence[Path],
    host: str,
    port: int,
    token: str | None,
    allowed_hosts: Sequence[str],
    timeout: float,
    queue_size: int,
    max_wait: float,
    max_texts: int,
    max_characters: int,
    max_length: int,
    max_beam: int,
    workers: int,
) -> None:
    """Answer HTTP requests with one or more models, until Ctrl-C or SIGTERM.

    RUN is a run folder, a packaged model or an exported SavedModel; the last part of its path is
    the model's name. `POST /generate` accepts every option of `s2s generate` and can stream;
    `/v1/models/NAME:predict` is TensorFlow Serving's interface; `/docs` describes all. Needs
    `pip install 'seq2seq_kit[serve]'`.
    """
    names = _names(runs)
    if token == "":
        raise InputError("--token must not be empty.")
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"`s2s serve` needs {error.name}. Install it with `pip install 'seq2seq_kit[serve]'`."
        ) from error
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    from seq2seq_kit.inference.parallel import num_threads
    from seq2seq_kit.machine import available_cores
    from seq2seq_kit.serving.bodies import Limits
    from seq2seq_kit.serving.hosts import LOOPBACK
    from seq2seq_kit.serving.process import SearchProcess
    from seq2seq_kit.serving.server import Server, address_of, listen

    paths = dict(zip(names, runs, strict=True))
    with listen(host, port) as listener:  # First, since loading a model takes longer.
        models = {name: _load(run) for name, run in paths.items()}
        limits = Limits(max_texts, max_characters, max_length, max_beam, timeout)
        load = functools.partial(load_for_one_core, paths)
        numbers = range(workers if workers > 1 else 0)
        server = Server(
            models,
            limits=limits,
            queue_size=queue_size,
            max_wait=max_wait / 1000,
            token=token,
            hosts=[*LOOPBACK, *allowed_hosts] if allowed_hosts or host in LOOPBACK else None,
            threads=num_threads(0, available_cores()),
            processes=[SearchProcess(number, load) for number in numbers],
        )
        if host not in LOOPBACK and token is None:
            logger.warning("Everybody who reaches %s can use this server: it has no --token.", host)
        address = address_of(listener)
        click.echo(f"Serving {', '.join(names)} on {address} (its interface: {address}/docs)")
        server.run(listener)


def _names(runs: Sequence[Path]) -> list[str]:
    """Returns the name of each model.

    Raises:
        InputError: If two have the same name, or one has none.
    """
    names = [run.resolve().name if run.exists() else run.name for run in runs]
    for name in names:
        if not name or names.count(name) > 1:
            raise InputError(
                f"Each model must have a different name, the last part of its path. Received: "
                f"{', '.join(map(str, runs))}. Rename a folder, or link to it."
            )
    return names


def load_for_one_core(paths: Mapping[str, Path]) -> "dict[str, ServedModel]":
    """Returns models by name, in a process whose operations use one core each."""
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return {name: _load(run) for name, run in paths.items()}


def _load(run: Path) -> "ServedModel":
    from seq2seq_kit import Seq2Seq
    from seq2seq_kit.serving.models import ServedExport, ServedRun

    model = load_run_or_export(run)
    return ServedRun(model) if isinstance(model, Seq2Seq) else ServedExport(model)
