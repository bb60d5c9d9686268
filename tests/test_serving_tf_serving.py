"""TensorFlow Serving's form, beside what its documentation shows.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import json
from typing import Any

import pytest

from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.serving.tf_serving import model_status, parse_predict, predict_response

FOUND = [
    [Hypothesis("one", (), -2.0, -1.0), Hypothesis("two", (), -4.0, -3.0, is_cut=True)],
    [Hypothesis("", (), float("-inf"), float("-inf"))] * 2,
]


def test_the_status_is_that_of_the_documentation() -> None:
    documented = """
    {"model_version_status": [
      {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]}"""
    assert model_status() == json.loads(documented.replace("123", "1"))


@pytest.mark.parametrize(
    "values",
    [
        {"instances": ["foo", "bär"]},
        {"instances": [{"inputs": "foo"}, {"b64": "YsOkcg=="}]},
        {"instances": [{"inputs": {"b64": "Zm9v"}}, "bär"], "signature_name": "serving_default"},
        {"inputs": ["foo", "bär"], "signature_name": ""},
        {"inputs": {"inputs": ["foo", "bär"]}},
    ],
)
def test_every_documented_way_to_write_the_inputs_is_read(values: dict[str, Any]) -> None:
    request = parse_predict(values)
    assert request.texts == ["foo", "bär"]
    assert request.is_row == ("instances" in values)
    assert not request.is_n_best


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "either `instances` or `inputs`"),
        ({"instances": ["a"], "inputs": ["a"]}, "either `instances` or `inputs`"),
        ({"instances": []}, "not empty"),
        ({"instances": "a"}, "must be a list"),
        ({"instances": [["a"]]}, "must be a text"),
        ({"instances": [1]}, "must be a text"),
        ({"instances": [{"input": "a"}]}, "must be a text"),
        ({"instances": [{"b64": "?"}]}, "base 64"),
        ({"instances": [{"b64": "/w=="}]}, "UTF-8"),
        ({"instances": ["a"], "signature_name": "classify"}, "serving_default, n_best"),
        ({"instances": ["a"], "signature_name": ["n_best"]}, "serving_default, n_best"),
        ({"instances": ["a"], "signature_name": {}}, "serving_default, n_best"),
        ({"instances": ["a"], "signature_name": None}, "serving_default, n_best"),
        ({"instance": ["a"]}, "Did you mean `instances`"),
    ],
)
def test_other_requests_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_predict(values)


def test_several_outputs_are_objects_by_row_and_lists_by_column() -> None:
    by_row = predict_response(parse_predict({"instances": ["a", "b"]}), FOUND)
    assert json.dumps(by_row) == (
        '{"predictions": [{"outputs": "one", "scores": -1.0}, '
        '{"outputs": "", "scores": -Infinity}]}'
    )
    by_column = predict_response(parse_predict({"inputs": ["a", "b"]}), FOUND)
    assert by_column == {"outputs": {"outputs": ["one", ""], "scores": [-1.0, float("-inf")]}}


def test_n_best_has_the_whole_beam() -> None:
    request = parse_predict({"instances": ["a"], "signature_name": "n_best"})
    assert predict_response(request, FOUND[:1]) == {
        "predictions": [
            {
                "outputs": ["one", "two"],
                "scores": [-1.0, -3.0],
                "log_probs": [-2.0, -4.0],
                "is_cut": [False, True],
            }
        ]
    }
