"""TensorFlow Serving's form, beside what its documentation shows.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import json
from typing import Any

import pytest

from seq2seq_kit.errors import InputError
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.serving.bodies import Limits
from seq2seq_kit.serving.tf_serving import (
    PredictRequest,
    hypotheses_response,
    model_status,
    parse_predict,
    predict_response,
)


def parse(values: dict[str, Any]) -> PredictRequest:
    return parse_predict(values, Limits(texts=2, beam_size=4, max_length=9))


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
    request = parse(values)
    assert request == ("serving_default", {"inputs": ["foo", "bär"]}, "instances" in values)


@pytest.mark.parametrize(
    ("signature", "values", "expected"),
    [
        (
            "score",
            {"instances": [{"inputs": "a", "targets": {"b64": "Yg=="}}]},
            {"inputs": ["a"], "targets": ["b"]},
        ),
        (
            "score",
            {"inputs": {"inputs": ["a"], "targets": ["b"]}},
            {"inputs": ["a"], "targets": ["b"]},
        ),
        (
            "sample",
            {"inputs": {"inputs": ["a"], "num_samples": 2, "seed": 7}},
            {"inputs": ["a"], "num_samples": 2, "seed": 7},
        ),
        ("read", {"inputs": {"inputs": ["a"], "seed": 1}}, {"inputs": ["a"], "seed": 1}),
        (
            "continue",
            {"inputs": {"max_length": 3, "hidden_0": [[0.5]]}},
            {"max_length": 3, "hidden_0": [[0.5]]},
        ),
    ],
)
def test_inputs_of_other_signatures_are_read_by_name(
    signature: str, values: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert parse({**values, "signature_name": signature}).inputs == expected


def score(**values: Any) -> dict[str, Any]:
    return {**values, "signature_name": "score"}


def sample(**values: Any) -> dict[str, Any]:
    return {**values, "signature_name": "sample"}


def go_on(**values: Any) -> dict[str, Any]:
    return {**values, "signature_name": "continue"}


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
        ({"instances": ["a"], "signature_name": "classify"}, "serving_default, n_best, score"),
        ({"instances": ["a"], "signature_name": ["n_best"]}, "serving_default, n_best, score"),
        ({"instances": ["a"], "signature_name": {}}, "serving_default, n_best, score"),
        ({"instances": ["a"], "signature_name": None}, "serving_default, n_best, score"),
        ({"instance": ["a"]}, "Did you mean `instances`"),
        ({"instances": ["a"] * 3}, "at most 2 texts"),
        (score(instances=["a"]), "must be an object with inputs, targets"),
        (score(inputs=["a"]), "must be an object with inputs, targets"),
        (score(inputs={"inputs": ["a"]}), "must have `targets`"),
        (score(inputs={"inputs": ["a"], "targets": ["b", "c"]}), "1 inputs, 2 targets"),
        (score(inputs={"inputs": ["a"], "targets": ["b"], "target": 1}), "mean `targets`"),
        (sample(instances=["a"]), "one for the whole batch.* Send `inputs`"),
        (sample(inputs={"inputs": ["a"], "seed": 1}), "must have `num_samples`"),
        (sample(inputs={"inputs": ["a"], "seed": 1, "num_samples": 5}), "at most 4"),
        (sample(inputs={"inputs": ["a"], "seed": 1.5, "num_samples": 2}), "whole number"),
        (go_on(inputs=["a"]), "parts of a state"),
        (go_on(inputs={"max_length": 10, "hidden_0": [[0]]}), "at most 9"),
        (go_on(inputs={"max_length": 3}), "of 1 to 2 texts. Received: 0"),
        (go_on(inputs={"max_length": 3, "hidden_0": [[0]] * 3}), "Received: 3"),
    ],
)
def test_other_requests_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(values)


def test_several_outputs_are_objects_by_row_and_lists_by_column() -> None:
    by_row = hypotheses_response(parse({"instances": ["a", "b"]}), FOUND)
    assert json.dumps(by_row) == (
        '{"predictions": [{"outputs": "one", "scores": -1.0}, '
        '{"outputs": "", "scores": -Infinity}]}'
    )
    by_column = hypotheses_response(parse({"inputs": ["a", "b"]}), FOUND)
    assert by_column == {"outputs": {"outputs": ["one", ""], "scores": [-1.0, float("-inf")]}}


def test_n_best_has_the_whole_beam() -> None:
    request = parse({"instances": ["a"], "signature_name": "n_best"})
    assert hypotheses_response(request, FOUND[:1]) == {
        "predictions": [
            {
                "outputs": ["one", "two"],
                "scores": [-1.0, -3.0],
                "log_probs": [-2.0, -4.0],
                "is_cut": [False, True],
            }
        ]
    }


def test_columns_become_rows_where_the_request_has_rows() -> None:
    columns = {"log_probs": [-1.0, -2.0], "num_tokens": [3, 4]}
    rows = [{"inputs": "a", "targets": "b"}] * 2
    assert predict_response(parse(score(instances=rows)), columns) == {
        "predictions": [
            {"log_probs": -1.0, "num_tokens": 3},
            {"log_probs": -2.0, "num_tokens": 4},
        ]
    }
