"""What all sections of a config share: the base class, and the types of their fields."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from seq2seq_kit import bounds
from seq2seq_kit.config.faults import ContradictionError, explain
from seq2seq_kit.errors import InputError
from seq2seq_kit.files import path_fault

# Numbers are strict: without it `true` counts as 1, and "64" (a slip of quoting) as 64. Each has an
# upper bound; `bounds` gives the reasons.
Fraction = Annotated[float, Field(ge=0.0, lt=1.0, strict=True)]
Share = Annotated[float, Field(gt=0.0, le=1.0, strict=True)]
Count = Annotated[int, Field(ge=0, le=bounds.MAX_COUNT, strict=True)]
PositiveCount = Annotated[int, Field(ge=1, le=bounds.MAX_COUNT, strict=True)]
Tokens = Annotated[int, Field(ge=1, le=bounds.MAX_TOKENS, strict=True)]
BatchSize = Annotated[int, Field(ge=1, le=bounds.MAX_BATCH_SIZE, strict=True)]
Width = Annotated[int, Field(ge=1, le=bounds.MAX_WIDTH, strict=True)]
Layers = Annotated[int, Field(ge=1, le=bounds.MAX_LAYERS, strict=True)]
Minutes = Annotated[float, Field(gt=0.0, le=bounds.MAX_MINUTES, strict=True)]
Precision = Literal["float32", "bfloat16"]
Switch = Annotated[bool, Field(strict=True)]
Normalization = Literal["nfc", "nfd", "nfkc", "none"]


def as_list(value: Any) -> Any:
    """A single entry may be written without the list around it."""
    return value if value is None or isinstance(value, list | tuple) else [value]


def _check_path(path: Path) -> Path:
    if reason := path_fault(path):
        raise ValueError(f"cannot be used: {reason}")
    return path


FilePath = Annotated[Path, AfterValidator(_check_path)]

MAY_CHANGE = Field(json_schema_extra={"may_change_on_resume": True})
"""Marks a field, or all keys of a section, that a resumed run may give a new value. The values of
other fields are in the weights, in the optimizer's state, in the plan of an epoch or in the losses
that are compared, so that a new value would take effect only in part."""

NOT_IN_WEIGHTS = Field(json_schema_extra={"not_in_weights": True})
"""Marks a field of `model` that only training reads. Where training starts from the weights of
another run, it may have any value; the other fields must be those of that run."""


class Section(BaseModel):
    """What all sections share: they cannot be changed, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, values: Any) -> Any:
        """In YAML, a section whose keys are all commented out is None."""
        return {} if values is None else values

    def check_values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values of fields as a config has them.

        Raises:
            InputError: If one is not allowed.
        """
        try:
            checked = type(self).model_validate(dict(self) | dict(given))
        except ValidationError as error:
            faults = explain(error, given, type(self))
            raise InputError("\n".join(f"`{key}` {text}" for key, text in faults)) from error
        return {name: getattr(checked, name) for name in given}

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        faults = self._contradictions()
        if faults:
            raise ContradictionError(faults)
        return self

    def _contradictions(self) -> dict[str, str]:
        """Keys that are valid alone but not together, each with what is wrong."""
        return {}
