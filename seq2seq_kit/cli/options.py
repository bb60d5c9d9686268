"""Arguments and options that several commands share.

The options of a search, of an adaptation and of `s2s augment` are generated from the fields of
`DecodingConfig`, `AdaptationConfig` and `AugmentationConfig`, with their documentation as help,
when a command first needs them: importing the config costs more than all of click.
"""

import functools
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seq2seq_kit.errors import InputError

if TYPE_CHECKING:
    from seq2seq_kit.config import AugmentationConfig
    from seq2seq_kit.config.section import Section


@dataclass
class Session:
    """Settings that every command has."""

    debug: bool = False
    """Whether to show the traceback of an error."""


class _UserPath(click.Path):
    """A path in which `~` is a home folder even where the shell left it: `--run-dir=~/run`."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        from seq2seq_kit.files import user_path

        try:
            return user_path(str(super().convert(value, param, ctx)))
        except InputError as error:
            self.fail(str(error), param, ctx)


def _set_debug(context: click.Context, _option: click.Parameter, debug: bool) -> None:
    if debug:
        context.find_root().obj.debug = True


FILE = _UserPath(path_type=Path)
"""The type of arguments that are paths."""

debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_set_debug,
    help="Show the traceback of an error.",
)

run_argument = click.argument("run", type=FILE)

runs_argument = click.argument("runs", type=FILE, nargs=-1, required=True, metavar="RUN...")

long_lines_option = click.option(
    "--long-lines",
    type=click.Choice(["error", "truncate"]),
    default="error",
    show_default=True,
    help="What to do with inputs that are too long.",
)


def check_text(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """Returns a text from the command line as UTF-8, whatever the locale.

    Python keeps bytes that it could not decode by the locale as surrogates.
    """
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(text or "").decode()
        except UnicodeError as error:
            raise click.BadParameter(f"must be UTF-8. Received: {text!r}.") from error
    return text


def check_against_config(run: Path, options: Mapping[str, Any]) -> None:
    """Checks options against a run's config, before TensorFlow takes seconds to load.

    Args:
        run: The run folder, or the name of a packaged model; one that does not exist is left to
            whoever loads it.
        options: The options of the search; None means not given. Others are ignored.

    Raises:
        InputError: If they contradict each other or the config.
    """
    from seq2seq_kit.config import DecodingConfig, load_saved_config
    from seq2seq_kit.pretrained.catalog import run_path
    from seq2seq_kit.training.run_folder import RunFolder

    path = RunFolder(run_path(run)).config
    if path.is_file():
        given = {name: options[name] for name in DecodingConfig.model_fields if name in options}
        load_saved_config(path).config.decoding.override(**given)


class AdaptationCommand(click.Command):
    """A command that also accepts every option of `AdaptationConfig`; None means not given."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from seq2seq_kit.config import AdaptationConfig

        *own, help_option = super().get_params(ctx)
        return [*own, *_options_of(AdaptationConfig), help_option]


class SearchCommand(click.Command):
    """A command that also accepts every option of `DecodingConfig`; None means not given."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from seq2seq_kit.config import DecodingConfig

        *own, help_option = super().get_params(ctx)
        greedy = "Take the most likely token at each step: as --no-sample --beam-size 1."
        greedy_option = click.Option(["--greedy"], is_flag=True, help=greedy)
        return [*own, *_options_of(DecodingConfig), greedy_option, help_option]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if ctx.params.pop("greedy", False):
            for name, value in {"sample": False, "beam_size": 1}.items():
                if ctx.params[name] not in (None, value):
                    option = f"--{name.replace('_', '-')}"
                    raise click.UsageError(f"--greedy contradicts {option}. Leave one of them out.")
                ctx.params[name] = value
        return rest


class AugmentCommand(SearchCommand):
    """A command that also accepts every option of `AugmentationConfig`; None means not given."""

    without: tuple[str, ...] = ()
    """Options that the command does not have."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from seq2seq_kit.config import AugmentationConfig

        *others, help_option = super().get_params(ctx)
        options = [one for one in _options_of(AugmentationConfig) if one.name not in self.without]
        return [*others, *options, help_option]


class DistillCommand(AugmentCommand):
    """A command that also accepts the options of `AugmentationConfig` that suit distillation."""

    # Sources stay as they are.
    without = ("back_translation", "tag")


def take_augmentation(given: dict[str, Any]) -> "AugmentationConfig":
    """Takes the options of `AugmentationConfig` off the given ones and returns them.

    Raises:
        UsageError: If one has no effect beside the others.
    """
    from seq2seq_kit.config import AugmentationConfig

    chosen = {name: given.pop(name) for name in AugmentationConfig.model_fields if name in given}
    kept = AugmentationConfig().override(**chosen)
    if faults := kept.contradictions(chosen):
        raise click.UsageError(" ".join(f"`{key}` {fault}" for key, fault in faults.items()))
    if given.get("sample") not in (None, kept.keep == "sample"):
        raise click.UsageError(
            f"Whether the search samples follows from --keep, here {kept.keep}. Leave --sample and "
            f"--no-sample out."
        )
    return kept


@functools.cache
def _options_of(section: "type[Section]") -> list[click.Parameter]:
    """Returns an option for each field of a section, with its documentation as help."""

    def check(_context: click.Context, option: click.Parameter, value: Any) -> Any:
        if value is None or value == ():
            return None
        try:
            section().check_values({str(option.name): value})
        except InputError as error:
            raise click.BadParameter(str(error)) from error
        return value

    options: list[click.Parameter] = []
    for name, field in section.model_fields.items():
        dashed = name.replace("_", "-")
        is_list = typing.get_origin(field.annotation) is tuple
        choices = () if is_list else typing.get_args(field.annotation)
        options.append(
            click.Option(
                [f"--{dashed}/--no-{dashed}" if field.annotation is bool else f"--{dashed}"],
                type=click.Choice(choices) if choices else str if is_list else field.annotation,
                multiple=is_list,
                default=None,
                callback=check,
                help=f"{field.description} May be repeated." if is_list else field.description,
            )
        )
    return options
