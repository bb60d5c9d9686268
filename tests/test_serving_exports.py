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
from seq2seq_kit.serving.models import ServedExport, ServedModel, ServedRun

TEXTS = ["ab", "", "cab", "春", "dddd"]


class Served(NamedTuple):
    """A server of an export, and what its run answers."""

    client: Client
    expected: list[list[Hypothesis]]


@pytest.fixture(scope="module")
def served(translation_run: TrainedRun, translation_export: Path) -> Iterator[Served]:
    expected = list(translation_run.fitted.hypotheses(TEXTS, num_hypotheses=2))
    models: dict[str, ServedModel] = {
        "small.export": ServedExport(ExportedModel(translation_export)),
        "small": ServedRun(translation_run.fitted),
    }
    with serving(models) as client:
        yield Served(client, expected)


def generate(served: Served, *texts: str, **values: Any) -> Answer:
    return served.client.post("/generate", {"model": "small.export", "texts": texts, **values})


def predict(served: Served, model: str = "small.export", **body: Any) -> Answer:
    return served.client.post(f"/v1/models/{model}:predict", body)


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


def test_samples_and_scores_of_an_export_are_those_of_its_run(
    served: Served, translation_run: TrainedRun
) -> None:
    model = translation_run.fitted
    samples = list(model.hypotheses(TEXTS, sample=True, seed=7, num_hypotheses=3))
    scores = model.score(TEXTS, TEXTS[::-1])
    for name in ("small.export", "small"):
        asked = {"inputs": TEXTS, "num_samples": 3, "seed": 7}
        found = predict(served, name, signature_name="sample", inputs=asked).json["outputs"]
        assert found["outputs"] == [[one.text for one in line] for line in samples]
        pairs = {"inputs": TEXTS, "targets": TEXTS[::-1]}
        found = predict(served, name, signature_name="score", inputs=pairs).json["outputs"]
        assert found["num_tokens"] == [one.num_tokens for one in scores]
        expected = [one.log_prob for one in scores]
        assert found["log_probs"] == pytest.approx(expected, abs=1e-3)
        assert list(map(sum, found["token_log_probs"])) == pytest.approx(expected, abs=1e-3)
    answer = generate(served, *TEXTS, sample=True, seed=7, num_hypotheses=3)
    assert [[one["text"] for one in line] for line in answer.json["hypotheses"]] == [
        [one.text for one in line] for line in samples
    ]


@pytest.mark.parametrize("model", ["small.export", "small"])
def test_a_signature_that_a_model_does_not_have_is_refused(served: Served, model: str) -> None:
    answer = predict(served, model, signature_name="read", inputs={"inputs": ["a"], "seed": 1})
    assert (answer.status, "`read`" in answer.json["error"]) == (400, True)


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
        ({"seed": 3}, "only with `sample: true`"),
        ({"sample": True, "seed": -1}, "`seed`"),
        ({"sample": True, "temperature": 2.0}, "serve the run"),
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
    found = served.client.post(
        f"/inspect/{look}", {"model": "small.export", "text": "ab", **values}
    )
    one = inspection.LOOKS[look]
    body = inspection.parse(one, {"text": "ab", **values}, Limits())
    expected = one.run(translation_run.fitted, body)
    assert (found.status, found.json) == (200, json.loads(json.dumps(expected)))


def test_the_page_knows_that_it_can_look_into_an_export(served: Served) -> None:
    found, _ = served.client.get("/inspect").json["models"]
    assert (found["kind"], found["can_look_inside"], found["task"]) == (
        "export",
        True,
        "translation",
    )
    assert found["layers"] == ["encoder_forward_0", "encoder_backward_0", "decoder_0"]
