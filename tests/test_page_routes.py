"""The page's files and what it asks the server, without a browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from serving import Answer, Backwards, Client, serving
from untrained import untrained_model, untrained_writer

from seq2seq_kit import insight
from seq2seq_kit.errors import DataError
from seq2seq_kit.seq2seq import Seq2Seq
from seq2seq_kit.serving import page_routes
from seq2seq_kit.serving.models import ServedRun

FOLDER = Path(page_routes.__file__).with_name("page")


class Served(NamedTuple):
    """A server of a translator, a writer and a model that is no run, and the first two."""

    client: Client
    models: dict[str, Seq2Seq]

    def look(self, name: str, model: str = "letters", **values: Any) -> Answer:
        texts = {"text": "ab", "output": "xyx"} if model == "letters" else {"output": "110"}
        return self.client.post(f"/inspect/{name}", {"model": model, **texts, **values})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folders = [tmp_path_factory.mktemp(name) for name in ("letters", "writer")]
    models = {"letters": untrained_model(folders[0]), "writer": untrained_writer(folders[1])}
    runs = {name: ServedRun(model) for name, model in models.items()}
    with serving({**runs, "backwards": Backwards()}) as client:
        yield Served(client, models)


def test_every_file_of_the_page_is_sent_with_a_strict_policy(served: Served) -> None:
    for path in FOLDER.iterdir():
        answer = served.client.get("/" if path.name == "index.html" else f"/page/{path.name}")
        assert answer.status == 200
        assert answer.body == path.read_bytes()
        assert "charset=utf-8" in answer.headers["Content-Type"] or path.suffix == ".svg"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        tag = {"If-None-Match": answer.headers["ETag"]}
        assert served.client.get(f"/page/{path.name}", **tag).status == 304


def test_the_page_has_nothing_of_another_host_and_makes_no_html_of_text() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b|Function\(", text)
        assert not re.search(r"<[^>]+\son\w+=|<style|style=\"|javascript:", text), path


@pytest.mark.parametrize("path", ["/page/none.js", "/page/..%2fapp.py", "/page/"])
def test_other_files_are_not_sent(served: Served, path: str) -> None:
    assert served.client.get(path).status == 404


def test_models_are_described(served: Served) -> None:
    found = {one["name"]: one for one in served.client.get("/inspect").json["models"]}
    assert found["backwards"] == {
        "name": "backwards",
        "kind": "export",
        "can_look_inside": False,
        "beam_size": 2,
    }
    assert (found["letters"]["task"], found["letters"]["has_attention"]) == ("translation", True)
    assert (found["writer"]["joins_texts"], found["writer"]["has_attention"]) == (True, False)
    assert found["writer"]["layers"] == ["decoder_0"]


@pytest.mark.parametrize("model", ["letters", "writer"])
def test_words_are_the_output_with_its_surprise(served: Served, model: str) -> None:
    answer = served.look("words", model).json
    *words, end = answer["words"]
    assert "".join(word["text"] for word in words).strip() == "xyx" if model == "letters" else "110"
    assert end["is_end"]
    source, target = ("ab", "xyx") if model == "letters" else ("", "110")
    (score,) = served.models[model].scorer.score([source], [target])
    assert answer["log_prob"] == pytest.approx(score.log_prob, abs=1e-4)
    assert sum(word["log_prob"] for word in answer["words"]) == pytest.approx(
        score.log_prob, abs=1e-2
    )


def test_alternatives_are_those_of_insight(served: Served) -> None:
    expected = insight.alternatives(served.models["letters"], "ab", "xyx", step=1, count=3)
    found = served.look("alternatives", step=1, count=3).json["alternatives"]
    assert [one["log_prob"] for one in found] == [one.log_prob for one in expected]
    assert [one["prefix"] for one in found] == [
        None if one.is_end else one.text for one in expected
    ]


def test_a_trace_is_summarized(served: Served) -> None:
    seen = insight.trace(served.models["letters"], "ab", "xyx")
    found = served.look("trace").json
    assert np.allclose(found["attention"], seen.attention, atol=6e-4)
    for layer in found["layers"]:
        gate = seen.layers[layer["name"]].forget_gate
        track = layer["parts"]["forget_gate"]
        assert np.allclose(track["mean"], gate.mean(axis=1), atol=6e-4)
        assert all(low <= high for low, high in zip(track["low"], track["high"], strict=True))
    assert served.look("trace", "writer").json["attention"] is None


def test_units_that_are_asked_for_come_first(served: Served) -> None:
    layer = insight.trace(served.models["letters"], "ab", "xyx").layers["decoder_0"]
    found = served.look("units", layer="decoder_0", part="cell", units=[7, 2]).json
    assert found["units"][:2] == [7, 2]
    assert np.allclose(found["values"], layer.cell[:, found["units"]].T, atol=6e-4)
    spread = layer.cell.std(axis=0)
    assert found["units"][2] == next(u for u in np.argsort(-spread) if u not in (7, 2))


def test_a_changed_model_writes_what_insight_says(served: Served) -> None:
    model = served.models["letters"]
    steps = len(insight.trace(model, "ab", "xyx").source_tokens)
    weights = [0.0] * (steps - 1) + [2.0]
    with insight.intervene(
        model,
        insight.Intervention(layer="decoder_0", part="hidden", units=(1, 2), scale=0.0),
        insight.ForcedAttention(step=1, weights=weights),
    ) as changed:
        ((expected,),) = changed.hypotheses(["ab"], prefixes="x")
    part = {"layer": "decoder_0", "part": "hidden", "units": [1, 2], "scale": 0}
    values = {"interventions": [part], "attention": [{"step": 1, "weights": weights}]}
    answer = served.look("write", prefix="x", **values)
    assert (answer.json["text"], answer.json["log_prob"]) == (expected.text, expected.log_prob)
    # The model itself is as before.
    assert served.look("write").json["text"] == model.generate(["ab"])[0]


def test_the_beam_is_that_of_insight(served: Served) -> None:
    tree = insight.beam_tree(served.models["letters"], "ab", beam_size=3)
    found = served.look("beam", beam_size=3).json
    assert found["output"] == tree.output
    assert [(one["parent"], one["text"], one["fate"]) for one in found["nodes"]] == [
        (node.parent, node.text, node.fate) for node in tree.nodes
    ]


def test_similar_lines_are_those_of_the_training_data(served: Served) -> None:
    expected = insight.TrainingIndex(served.models["letters"], max_lines=1000).nearest("ab", "xyx")
    found = served.look("similar").json["neighbors"]
    assert [(one["line"], one["source"]) for one in found] == [
        (one.line, one.source) for one in expected
    ]


def test_a_model_without_its_training_data_has_no_similar_lines(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DataError("/secret/train.tsv: expected a readable text file")

    monkeypatch.setattr(insight, "TrainingIndex", fail)
    answer = served.look("similar", state="context")
    assert (answer.status, "secret" in answer.json["error"]) == (400, False)
    assert "not on this server" in answer.json["error"]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("write", {"interventions": [{"layer": "decoder_0", "part": "x"}]}, "`part` must be"),
        ("write", {"interventions": [{"scale": "1"}]}, "interventions"),
        ("write", {"attention": [{"step": 0, "weights": [1, 2]}]}, "tokens"),
        ("write", {"attention": [{"step": 0, "weights": [0]}]}, "`weights` must be"),
        ("write", {"interventions": [{"layer": "decoder_0"}] * 101}, "interventions"),
        ("beam", {"beam_size": 17}, "`beam_size` must be at most 16"),
        ("beam", {"text": ""}, "An empty input"),
        ("similar", {"position": 99}, "`position`"),
        ("words", {"texts": ["ab"]}, "`texts` is an unknown option. Did you mean `text`?"),
        ("words", {"output": 3}, "`output` must be a text"),
        ("words", {"output": "x" * 10_001}, "at most 10,000 characters"),
        ("words", {"output": "x" * 2_000}, "at most 1,000 tokens"),
        ("alternatives", {"step": 99}, "`step` must be from 0 to"),
        ("alternatives", {"count": 0}, "`count`"),
        ("units", {"layer": "decoder_9"}, "`layer` must be one of encoder_forward_0"),
        ("units", {"layer": "decoder_0", "part": "cell", "units": [8]}, "from 0 to 7. Received: 8"),
        ("units", {"layer": "decoder_0", "part": "gate"}, "`part`"),
        ("trace", {"model": "backwards"}, "export of an earlier version"),
    ],
)
def test_a_wrong_request_is_400_with_the_reason(
    served: Served, name: str, values: dict[str, Any], message: str
) -> None:
    answer = served.look(name, **values)
    assert answer.status == 400
    assert message in answer.json["error"]


def test_the_page_needs_no_token_and_looking_inside_does() -> None:
    with serving({"backwards": Backwards()}, token="open sesame") as client:
        assert client.get("/").status == client.get("/page/main.js").status == 200
        assert client.get("/inspect").status == client.post("/inspect/words", {}).status == 401
        header = {"Authorization": "Bearer open sesame"}
        assert client.get("/inspect", **header).status == 200
