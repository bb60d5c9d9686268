"""`s2s runs`: lists runs with the settings in which they differ and with their results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seq2seq_kit.cli.exit_codes import FAILED
from seq2seq_kit.cli.options import FILE, debug_option
from seq2seq_kit.cli.tables import columns, short_label

if TYPE_CHECKING:
    from seq2seq_kit.training.summary import RunSummary

_DEFAULT = Path("runs")


@click.command
@click.argument("folders", type=FILE, nargs=-1, metavar="[FOLDER]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@debug_option
def runs(folders: tuple[Path, ...], as_json: bool) -> int:
    """List runs with their results and the settings in which they differ.

    A FOLDER is a run or contains runs; without one, the runs in `runs` are listed. The results of a
    run that has not finished are those of its validations so far. Folders that are no run, and
    damaged runs, are named on standard error with the reason.
    """
    import json

    from seq2seq_kit.training.summary import NoRun, RunSummary, find_runs

    found = [one for folder in folders or (_DEFAULT,) for one in find_runs(folder)]
    listed = list(
        {one.path.resolve(): one for one in found if isinstance(one, RunSummary)}.values()
    )
    for one in found:
        if isinstance(one, NoRun):
            click.echo(f"Not listed: {one.path}: {one.reason}", err=True)
    if as_json:
        click.echo(json.dumps([_described(run) for run in listed], ensure_ascii=False, indent=2))
    elif listed:
        click.echo(_table(listed))
    if not listed:
        where = ", ".join(map(str, folders or (_DEFAULT,)))
        click.echo(f"There is no run in {where}. `s2s fit` makes one.", err=True)
        return FAILED
    return 0


def _described(run: "RunSummary") -> dict[str, Any]:
    return {
        "run": str(run.path),
        "state": run.state,
        "results": run.results,
        "settings": run.settings,
    }


def _table(listed: "Sequence[RunSummary]") -> str:
    """Returns a row for each run: its state, its results, and the settings that differ."""
    from seq2seq_kit.training.summary import different_settings

    results = dict.fromkeys(name for run in listed for name in run.results)
    settings = different_settings(listed)
    names = _short_names(settings)
    rows = [
        ["run", "state", *map(short_label, results), *names],
        *(
            [
                str(run.path),
                run.state,
                *(_number(run.results, name) for name in results),
                *(_setting(run.settings.get(key)) for key in settings),
            ]
            for run in listed
        ),
    ]
    return columns(rows)


def _number(results: Mapping[str, float], name: str) -> str:
    if name not in results:
        return "-"
    value = results[name]
    if name == "steps":
        return f"{value:,.0f}"
    return f"{value:.4f}" if name == "validation_loss" else f"{value:.2f}"


def _setting(value: Any) -> str:
    """Returns a setting as its config spells it; of files, only their names."""
    if isinstance(value, list):
        return ", ".join(map(_setting, value)) or "none"
    if isinstance(value, Mapping):  # A corpus: its files say which one it is.
        return "+".join(_setting(part) for part in value.values() if _is_path(part))
    if _is_path(value):
        return Path(value).name
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "/" in value


def _short_names(keys: Sequence[str]) -> list[str]:
    """Returns the last part of each dotted key; the whole key where that is ambiguous."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]
