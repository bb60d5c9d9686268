"""Values laid out for people."""

from collections.abc import Mapping
from typing import Any


def table(values: Mapping[str, Any]) -> str:
    """Returns one value a line, in two columns.

    Example:

    >>> print(table({"bleu": 38.8123456, "num_lines": 2002}))
    bleu       38.8123
    num_lines  2002
    """
    width = max(map(len, values))
    return "\n".join(f"{name:<{width}}  {format_value(value)}" for name, value in values.items())


def format_value(value: Any) -> str:
    """Returns a value as text, a float with six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
