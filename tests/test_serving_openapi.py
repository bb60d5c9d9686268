"""The OpenAPI document describes what is checked, and the page shows all of it."""

import re
from typing import Any

from starlette.routing import Route

from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.serving.app import build_app
from seq2seq_kit.serving.bodies import GenerateBody, Limits
from seq2seq_kit.serving.inspection import LOOKS
from seq2seq_kit.serving.metrics import Metrics
from seq2seq_kit.serving.openapi import as_html, openapi_document

LIMITS = Limits(texts=3, beam_size=7)
DOCUMENT = openapi_document(["one", "two"], LIMITS)


def test_generate_has_every_field_with_its_documentation() -> None:
    schema = DOCUMENT["components"]["schemas"]["GenerateRequest"]
    fields = DecodingConfig.model_fields | GenerateBody.model_fields
    assert schema["properties"].keys() == fields.keys()
    assert {name: field.description for name, field in fields.items()} == {
        name: field["description"] for name, field in schema["properties"].items()
    }
    assert schema["required"] == ["texts", "model"]
    assert schema["properties"]["model"]["enum"] == ["one", "two"]


def test_every_route_is_described() -> None:
    served = {
        re.sub(r"{(\w+):\w+}", r"{\1}", route.path)
        for route in build_app({}, Metrics(), LIMITS).routes
        if isinstance(route, Route)
    }
    # The page and the documents themselves; a version is part of the name.
    others = {"/", "/page/{name}", "/docs", "/openapi.json"}
    assert served - others - {path for path in served if "{version}" in path} == {
        *DOCUMENT["paths"]
    }


def test_looks_have_every_field_with_its_documentation() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for look in LOOKS.values():
        properties = schemas[look.body.__name__]["properties"]
        assert properties.keys() == look.body.model_fields.keys()
        assert all(field["description"] for field in properties.values())


def test_limits_of_the_server_are_in_the_schema() -> None:
    fields = DOCUMENT["components"]["schemas"]["GenerateRequest"]["properties"]
    assert fields["texts"]["maxItems"] == 3
    assert fields["beam_size"]["maximum"] == fields["num_hypotheses"]["maximum"] == 7
    assert "default" not in fields["beam_size"]  # It is the model's own.


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if "$ref" in value else []
            return own + [found for item in value.values() for found in references(item)]
        return (
            [found for item in value for found in references(item)]
            if isinstance(value, list)
            else []
        )

    found = set(references(DOCUMENT))
    assert found
    for reference in found:
        place: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_the_page_shows_every_operation_and_field_and_loads_nothing() -> None:
    page = as_html(DOCUMENT)
    for path in DOCUMENT["paths"]:
        assert f" {path}</code>" in page
    for name in DecodingConfig.model_fields:
        assert f"<code>{name}</code>" in page
    assert "src=" not in page
    assert "http" not in page
