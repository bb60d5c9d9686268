"""Unknown keyword arguments of public functions, refused with a suggestion."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from seq2seq_kit.errors import InputError, suggest

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def option_names(function: Callable[..., Any]) -> list[str]:
    """Returns the names of the arguments that a function accepts by name."""
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [
        one.name for one in parameters if one.kind in by_name and one.name not in ("self", "cls")
    ]


def refuse_unknown_options(
    also: Sequence[str] = (), explain: Callable[[str, Sequence[str]], str] = suggest
) -> Callable[[Callable[_Parameters, _Result]], Callable[_Parameters, _Result]]:
    """Decorates a function so that an option it does not have is an InputError with a suggestion.

    Args:
        also: Names that it accepts as `**options`.
        explain: Returns a suggestion for an unknown name, given all known names.
    """

    def decorate(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
        known = [*option_names(function), *also]

        @functools.wraps(function)
        def checked(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
            for name in kwargs:
                if name not in known:
                    raise InputError(
                        f"`{name}` is an unknown option of `{function.__name__}`. "
                        f"{explain(name, known)}"
                    )
            return function(*args, **kwargs)

        return checked

    return decorate
