"""A real export behind the server answers as the run that it was made from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import TrainedRun
from serving import Answer, Client, serving

from seq2seq_kit.export.saved_model import ExportedModel
from seq2seq_kit.inference.generator import Hypothesis
from seq2seq_kit.serving import inspection
from seq2seq_kit.serving.bodies import Limits
from seq2seq_kit.serving.models import ServedExport

TEXTS = ["ab", "", "cab", "春", "dddd"]


class Served(NamedTuple):
    """A server of an export, and what its run answers."""

    client: Client
    expected: list[list[Hypothesis]]


@pytest.fixture(scope="module")
def served(translation_run: TrainedRun, translation_export: Path) -> Iterator[Served]:
    expected = list(translation_run.fitted.hypotheses(TEXTS, num_hypotheses=2))
    with serving({"small.export": ServedExport(ExportedModel(translation_export))}) as client:
        yield Served(client, expected)


def generate(served: Served, *texts: str, **values: Any) -> Answer:
    return served.client.post("/generate", {"texts": texts, **values})


def predict(served: Served, **body: Any) -> Answer:
    return served.client.post("/v1/models/small.export:predict", body)


def test_an_export_answers_as_its_run(served: Served) -> None:
    answer = generate(served, *TEXTS, num_hypotheses=2, beam_size=None)
    assert answer.status == 200
    for found, expected in zip(answer.json["hypotheses"], served.expected, strict=True):
        assert [one["text"] for one in found] == [one.text for one in expected]
        assert [one["score"] for one in found] == pytest.approx(
            [one.score for one in expected], abs=1e-4
        )


def test_an_export_answers_clients_of_tensorflow_serving(served: Served) -> None:
    rows = predict(served, instances=TEXTS, signature_name="n_best").json["predictions"]
    assert [row["outputs"][:2] for row in rows] == [
        [one.text for one in line] for line in served.expected
    ]
    columns = predict(served, inputs={"inputs": TEXTS}).json["outputs"]
    assert columns["outputs"] == [line[0].text for line in served.expected]


def test_a_line_too_long_for_an_export_is_refused_by_its_number(served: Served) -> None:
    for answer in (
        generate(served, "ab", "a" * 500),
        predict(served, instances=["ab", "a" * 500]),
    ):
        assert answer.status == 400
        assert answer.json["error"].startswith("Line 2 has ")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beam_size": 2}, "serve the run"),
        ({"truncate": True}, "serve the run"),
        ({"prefixes": ["b"]}, "Serve the run"),
        ({"stream": True}, "serve the run"),
        ({"alignments": True}, "serve the run"),
        ({"num_hypotheses": 6}, "at most 5"),
        ({"beam_sise": 2}, "Did you mean `beam_size`"),
    ],
)
def test_what_an_export_cannot_do_is_refused_with_the_reason(
    served: Served, values: dict[str, Any], message: str
) -> None:
    answer = generate(served, "ab", **values)
    assert (answer.status, message in answer.json["error"]) == (400, True)


@pytest.mark.parametrize(
    ("look", "values"),
    [
        ("words", {"output": "ba"}),
        ("trace", {"output": "ba"}),
        ("units", {"output": "ba", "layer": "decoder_0", "part": "cell"}),
        ("write", {"prefix": "c"}),
    ],
)
def test_an_export_is_looked_into_as_its_run_is(
    served: Served, translation_run: TrainedRun, look: str, values: dict[str, Any]
) -> None:
    found = served.client.post(f"/inspect/{look}", {"text": "ab", **values})
    one = inspection.LOOKS[look]
    body = inspection.parse(one, {"text": "ab", **values}, Limits())
    expected = one.run(translation_run.fitted, body)
    assert (found.status, found.json) == (200, json.loads(json.dumps(expected)))


def test_the_page_knows_that_it_can_look_into_an_export(served: Served) -> None:
    (found,) = served.client.get("/inspect").json["models"]
    assert (found["kind"], found["can_look_inside"], found["task"]) == (
        "export",
        True,
        "translation",
    )
    assert found["layers"] == ["encoder_forward_0", "encoder_backward_0", "decoder_0"]
