"""TensorFlow Serving's REST form: its requests to the inputs of a signature, outputs to responses.

Source: https://www.tensorflow.org/tfx/serving/api_rest, sections "Model status API" and "Predict
API". The signatures are those of an export. Knows nothing of HTTP.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seq2seq_kit.errors import InputError, shorten, suggest
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.serving.bodies import Limits, check_limits, check_texts

VERSION = "1"
"""The version that every model has."""

_TEXTS = ("inputs", "targets")

SIGNATURES: Mapping[str, tuple[str, ...]] = {
    "serving_default": ("inputs",),
    "n_best": ("inputs",),
    "score": ("inputs", "targets"),
    "sample": ("inputs", "num_samples", "seed"),
    "read": ("inputs", "seed"),
    "continue": ("max_length",),
}
"""The inputs of each signature; `continue` has those of a state besides."""


class PredictRequest(NamedTuple):
    """A request for what a signature returns."""

    signature: str
    """The name of the signature."""
    inputs: dict[str, Any]
    """Its inputs by name: lists of texts, numbers, and the parts of a state."""
    is_row: bool
    """Whether it is in row format, `instances`, and not in columnar format, `inputs`."""


def parse_predict(body: Mapping[str, Any], limits: Limits) -> PredictRequest:
    """Returns the request in a body.

    Raises:
        InputError: If it is not in the form that the API describes, or more than the limits allow.
    """
    known = ("signature_name", "instances", "inputs")
    for name in body:
        if name not in known:
            raise InputError(f"`{name}` is an unknown key. {suggest(name, known)}")
    signature = body.get("signature_name", "")
    if signature == "":
        signature = "serving_default"
    if not isinstance(signature, str) or signature not in SIGNATURES:
        raise InputError(
            f"`signature_name` must be one of {', '.join(SIGNATURES)}. Received: "
            f"{shorten(signature)}."
        )
    if ("instances" in body) == ("inputs" in body):
        raise InputError("A request must have either `instances` or `inputs`.")
    is_row = "instances" in body
    inputs = (
        _from_rows(signature, body["instances"])
        if is_row
        else _from_columns(signature, body["inputs"])
    )
    _check_inputs(signature, inputs, limits)
    return PredictRequest(signature, inputs, is_row)


def _from_columns(signature: str, values: Any) -> dict[str, Any]:
    """Returns the inputs of a request in columnar format."""
    expected = SIGNATURES[signature]
    if not isinstance(values, dict):
        if len(expected) > 1 or signature == "continue":
            raise InputError(
                f"`inputs` of `{signature}` must be an object with {', '.join(expected)}"
                f"{' and the parts of a state' * (signature == 'continue')}. Received: "
                f"{shorten(values)}."
            )
        values = {expected[0]: values}
    for name in expected:
        if name not in values:
            raise InputError(f"`inputs` of `{signature}` must have `{name}`.")
    if signature != "continue":
        for name in values.keys() - {*expected}:
            raise InputError(
                f"`{name}` is no input of `{signature}`. {suggest(name, list(expected))}"
            )
    return {n: _texts(n, value) if n in _TEXTS else value for n, value in values.items()}


def _from_rows(signature: str, rows: Any) -> dict[str, Any]:
    """Returns the inputs of a request in row format."""
    expected = SIGNATURES[signature]
    if not {*expected} <= {*_TEXTS}:
        raise InputError(
            f"`{signature}` has inputs that are one for the whole batch, which `instances` cannot "
            f"have. Send `inputs`."
        )
    if not isinstance(rows, list) or not rows:
        raise InputError(
            f"`instances` must be a list that is not empty. Received: {shorten(rows)}."
        )
    if len(expected) == 1:
        (name,) = expected
        plain = [
            row[name] if isinstance(row, dict) and row.keys() == {name} else row for row in rows
        ]
        return {name: [_text(value) for value in plain]}
    for row in rows:
        if not isinstance(row, dict) or row.keys() != {*expected}:
            raise InputError(
                f"Each of the `instances` of `{signature}` must be an object with "
                f"{', '.join(expected)}. Received: {shorten(row)}."
            )
    return {name: [_text(row[name]) for row in rows] for name in expected}


def _texts(name: str, values: Any) -> list[str]:
    if not isinstance(values, list) or not values:
        raise InputError(
            f"`{name}` must be a list of texts that is not empty. Received: {shorten(values)}."
        )
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    """Returns a text: as it is, or in base 64."""
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            value = base64.b64decode(value["b64"], validate=True).decode("utf-8")
        except (binascii.Error, ValueError) as error:
            raise InputError(
                f"`b64` must be UTF-8 in base 64. Received: {shorten(value['b64'])}."
            ) from error
    if not isinstance(value, str):
        raise InputError(f"Each input must be a text. Received: {shorten(value)}.")
    return value


def _check_inputs(signature: str, inputs: Mapping[str, Any], limits: Limits) -> None:
    """Raises InputError if there is more than the limits allow, or texts do not come in pairs."""
    for name in _TEXTS:
        check_texts(inputs.get(name, ()), limits)
    if signature == "score" and len(inputs["inputs"]) != len(inputs["targets"]):
        raise InputError(
            f"`score` needs one of the `targets` for each of the `inputs`. Received: "
            f"{len(inputs['inputs'])} inputs, {len(inputs['targets'])} targets."
        )
    for name in ("num_samples", "seed", "max_length"):
        number = inputs.get(name, 0)
        if not isinstance(number, int) or isinstance(number, bool):
            raise InputError(f"`{name}` must be a whole number. Received: {shorten(number)}.")
    check_limits(inputs, limits)
    if signature == "continue":
        rows = max((len(part) for part in inputs.values() if isinstance(part, list)), default=0)
        if not 1 <= rows <= limits.texts:
            raise InputError(
                f"`continue` needs the parts of a state, as `read` returned them, of 1 to "
                f"{limits.texts:,} texts. Received: {rows:,}."
            )


def hypotheses_response(
    request: PredictRequest, found: Sequence[Sequence[Hypothesis]]
) -> dict[str, Any]:
    """Returns the response of a signature that gives outputs, in the format of its request.

    A score of -inf, which marks a line that an export did not answer, is no JSON in the strict
    sense: the API says that it is written as `-Infinity`.

    Args:
        request: The request.
        found: The hypotheses of each text.
    """
    names = {"outputs": "text", "scores": "score"}
    if request.signature != "serving_default":
        names |= {"log_probs": "log_prob", "is_cut": "is_cut"}
    columns: dict[str, list[Any]] = {
        name: [[getattr(one, attribute) for one in line] for line in found]
        for name, attribute in names.items()
    }
    if request.signature == "serving_default":
        columns = {name: [line[0] for line in lines] for name, lines in columns.items()}
    return predict_response(request, columns)


def predict_response(
    request: PredictRequest, columns: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """Returns a response in the format of its request.

    Args:
        request: The request.
        columns: The outputs by name, a value for each text.
    """
    if not request.is_row:
        return {"outputs": dict(columns)}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def model_status() -> dict[str, Any]:
    """Returns the status of a model that is loaded."""
    status = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": VERSION, "state": "AVAILABLE", "status": status}]}
