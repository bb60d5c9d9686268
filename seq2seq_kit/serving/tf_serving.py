"""TensorFlow Serving's REST form: its requests to texts, hypotheses to its responses.

Source: https://www.tensorflow.org/tfx/serving/api_rest, sections "Model status API" and "Predict
API". The signatures are those of an export: `serving_default` and `n_best`. Knows nothing of HTTP.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seq2seq_kit.errors import InputError, shorten, suggest
from seq2seq_kit.inference.generator import Hypothesis

VERSION = "1"
"""The version that every model has."""

_INPUT = "inputs"  # The name of the only input of both signatures.

_SIGNATURES = ("serving_default", "n_best")


class PredictRequest(NamedTuple):
    """A request for predictions."""

    texts: list[str]
    """The inputs."""
    is_n_best: bool
    """Whether it asks for the whole beam, as the signature `n_best` gives it."""
    is_row: bool
    """Whether it is in row format, `instances`, and not in columnar format, `inputs`."""


def parse_predict(body: Mapping[str, Any]) -> PredictRequest:
    """Returns the request in a body.

    Raises:
        InputError: If it is not in the form that the API describes.
    """
    known = ("signature_name", "instances", "inputs")
    for name in body:
        if name not in known:
            raise InputError(f"`{name}` is an unknown key. {suggest(name, known)}")
    signature = body.get("signature_name", "")
    if signature == "":
        signature = "serving_default"
    if signature not in _SIGNATURES:
        raise InputError(
            f"`signature_name` must be one of {', '.join(_SIGNATURES)}. Received: "
            f"{shorten(signature)}."
        )
    if ("instances" in body) == ("inputs" in body):
        raise InputError("A request must have either `instances` or `inputs`.")
    is_row = "instances" in body
    values = body["instances"] if is_row else body["inputs"]
    if isinstance(values, dict) and values.keys() == {_INPUT}:
        values = values[_INPUT]
    if not isinstance(values, list) or not values:
        raise InputError(
            f"`{'instances' if is_row else 'inputs'}` must be a list of texts that is not empty. "
            f"Received: {shorten(values)}."
        )
    return PredictRequest([_text(value) for value in values], signature == "n_best", is_row)


def _text(value: Any) -> str:
    """Returns the text in an instance: as it is, in base 64, or under the name of the input."""
    if isinstance(value, dict) and value.keys() == {_INPUT}:
        value = value[_INPUT]
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


def predict_response(
    request: PredictRequest, found: Sequence[Sequence[Hypothesis]]
) -> dict[str, Any]:
    """Returns the response, in the format of its request.

    A score of -inf, which marks a line that an export did not answer, is no JSON in the strict
    sense: the API says that it is written as `-Infinity`.

    Args:
        request: The request.
        found: The hypotheses of each text.
    """
    names = {"outputs": "text", "scores": "score"}
    if request.is_n_best:
        names |= {"log_probs": "log_prob", "is_cut": "is_cut"}
    columns: dict[str, list[Any]] = {
        name: [[getattr(one, attribute) for one in line] for line in found]
        for name, attribute in names.items()
    }
    if not request.is_n_best:
        columns = {name: [line[0] for line in lines] for name, lines in columns.items()}
    if not request.is_row:
        return {"outputs": columns}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def model_status() -> dict[str, Any]:
    """Returns the status of a model that is loaded."""
    status = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": VERSION, "state": "AVAILABLE", "status": status}]}
