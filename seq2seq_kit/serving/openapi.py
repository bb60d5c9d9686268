"""The OpenAPI document of a server, and a page that shows it without scripts or other hosts."""

import html
from collections.abc import Sequence
from typing import Any

from seq2seq_kit import __version__
from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.serving.bodies import MAX_BANNED_TEXTS, GenerateBody, Limits

_ERRORS = {
    "400": "The request is wrong; `error` says why.",
    "401": "The token is missing or wrong.",
    "404": "There is no such model.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "500": "The model failed.",
    "503": "The queue is full; try again after `Retry-After` seconds.",
    "504": "The answer took too long.",
}

_WORDS = {"type": "array", "items": {"type": "string"}}

_ALIGNMENT = {
    "type": "object",
    "description": "Which word of the source each word of the text comes from.",
    "required": ["source_words", "target_words", "links"],
    "properties": {
        "source_words": _WORDS,
        "target_words": _WORDS,
        "links": {
            "type": "array",
            "description": "The places, from 0, of a source word and of a target word.",
            "items": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {"type": "integer", "minimum": 0},
            },
        },
    },
}

_HYPOTHESIS = {
    "type": "object",
    "required": ["text", "score", "log_prob", "is_cut"],
    "properties": {
        "text": {"type": "string"},
        "score": {
            "type": ["number", "null"],
            "description": "What the search ranked by; null for an input that an export marks.",
        },
        "log_prob": {"type": ["number", "null"], "description": "In nats."},
        "is_cut": {"type": "boolean", "description": "Whether `max_length` cut the text."},
        "alignment": _ALIGNMENT,
    },
}

_TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string"}}


def openapi_document(models: Sequence[str], limits: Limits) -> dict[str, Any]:
    """Returns the OpenAPI 3.1 document of a server.

    Args:
        models: The names of its models.
        limits: What a request may ask for at most.
    """
    return {
        "openapi": "3.1.0",
        "info": {"title": "seq2seq_kit", "version": __version__},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "GenerateRequest": _generate_schema(models, limits),
                "PredictRequest": _predict_schema(limits),
                "Hypothesis": _HYPOTHESIS,
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string"}},
                },
            },
        },
        "security": [{}, {"token": []}],
        "paths": _paths(models),
    }


def _generate_schema(models: Sequence[str], limits: Limits) -> dict[str, Any]:
    """Returns the schema of the body of `POST /generate`."""
    own = GenerateBody.model_json_schema()["properties"]
    search = DecodingConfig.model_json_schema()["properties"]
    names: list[str | None] = [*models, *([None] if len(models) == 1 else [])]
    own["model"] = {"enum": names, "description": _text(own["model"])}
    own["texts"] |= {"maxItems": limits.texts}
    for name in ("texts", "prefixes"):
        own[name]["items"] |= {"maxLength": limits.characters}
    for fields, name, most in (
        (own, "num_hypotheses", limits.beam_size),
        (search, "beam_size", limits.beam_size),
        (search, "max_length", limits.max_length),
    ):
        fields[name]["maximum"] = most
    search["banned_texts"]["maxItems"] = MAX_BANNED_TEXTS
    for field in search.values():  # The model's own options are the defaults; null is one, too.
        field.pop("default", None)
        field["type"] = [field["type"], "null"]
        if "enum" in field:
            field["enum"] = [*field["enum"], None]
    search["banned_texts"]["type"].append("string")  # One text needs no list around it.
    properties = own | search
    for field in properties.values():
        field.pop("title", None)
    return {
        "type": "object",
        "required": ["texts"] + ["model"] * (len(models) > 1),
        "additionalProperties": False,
        "properties": properties,
    }


def _text(field: dict[str, Any]) -> str:
    return str(field.get("description", ""))


def _predict_schema(limits: Limits) -> dict[str, Any]:
    texts = _TEXTS | {"maxItems": limits.texts}
    signature = {"enum": ["", "serving_default", "n_best"]}
    return {
        "oneOf": [
            {
                "type": "object",
                "required": [name],
                "additionalProperties": False,
                "properties": {"signature_name": signature, name: texts},
            }
            for name in ("instances", "inputs")
        ]
    }


def _paths(models: Sequence[str]) -> dict[str, Any]:
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": list(models)},
    }
    answers = {
        "type": "object",
        "required": ["model", "hypotheses"],
        "properties": {
            "model": {"type": "string"},
            "hypotheses": {
                "type": "array",
                "description": "For each text its hypotheses, best first.",
                "items": {"type": "array", "items": {"$ref": "#/components/schemas/Hypothesis"}},
            },
        },
    }
    generated = {
        "description": "The hypotheses of each text. With `stream`, events `piece`, and at last "
        "`end` with the whole text or `error`; the data of each are a JSON object.",
        "content": {
            "application/json": {"schema": answers},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    }
    predicted = _answer("Predictions.", {"type": "object"})
    status = _answer("The state of its only version.", {"type": "object"})
    errors = ("400", "401", "404", "408", "413", "500", "503", "504")
    return {
        "/generate": {
            "post": _operation(
                "generate",
                "Translate or continue texts, with any options of the search",
                generated,
                errors,
                body="GenerateRequest",
            )
        },
        "/v1/models/{name}:predict": {
            "parameters": [name],
            "post": _operation(
                "predict",
                "TensorFlow Serving's Predict API, with the model's own options",
                predicted,
                errors,
                body="PredictRequest",
            ),
        },
        "/v1/models/{name}": {
            "parameters": [name],
            "get": _operation(
                "status", "TensorFlow Serving's Model status API", status, ("401", "404")
            ),
        },
        "/health": {
            "get": _operation(
                "health",
                "Whether all models answer; needs no token",
                _answer("They do.", {"type": "object"}),
                (),
            )
            | {"security": []}
        },
        "/metrics": {
            "get": _operation(
                "metrics",
                "Metrics in Prometheus's text format",
                {"description": "Metrics.", "content": {"text/plain": {}}},
                ("401",),
            )
        },
    }


def _operation(
    name: str, summary: str, answer: dict[str, Any], errors: Sequence[str], body: str | None = None
) -> dict[str, Any]:
    """Returns an operation.

    Args:
        name: Its id.
        summary: What it does.
        answer: The response with status 200.
        errors: The other statuses.
        body: The schema of its body, if it has one.
    """
    failed = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": answer,
            **{status: {"description": _ERRORS[status], "content": failed} for status in errors},
        },
    }
    if body:
        schema = {"$ref": f"#/components/schemas/{body}"}
        content = {"application/json": {"schema": schema}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>seq2seq_kit {version}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; }}
th, td {{ text-align: left; vertical-align: top; padding: .25rem 1rem .25rem 0; }}
</style>
<h1>seq2seq_kit {version}</h1>
<p>As an OpenAPI document: <a href="openapi.json">openapi.json</a></p>
{operations}
</html>
"""


def as_html(document: dict[str, Any]) -> str:
    """Returns an OpenAPI document as a page for people."""
    operations = [
        _operation_html(method.upper(), path, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
    ]
    return _PAGE.format(
        version=html.escape(document["info"]["version"]), operations="\n".join(operations)
    )


def _operation_html(
    method: str, path: str, operation: dict[str, Any], document: dict[str, Any]
) -> str:
    parts = [
        f"<h2><code>{method} {html.escape(path)}</code></h2>",
        f"<p>{html.escape(operation['summary'])}.</p>",
    ]
    if "requestBody" in operation:
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
        fields: dict[str, Any] = {}
        for one in schema.get("oneOf", [schema]):
            fields |= one["properties"]
        parts.append(_table({name: _text(field) or _kind(field) for name, field in fields.items()}))
    responses = operation["responses"]
    parts.append(_table({status: one["description"] for status, one in responses.items()}))
    return "\n".join(parts)


def _kind(field: dict[str, Any]) -> str:
    return " or ".join(filter(None, field["enum"])) if "enum" in field else "A list of texts."


def _table(rows: dict[str, str]) -> str:
    cells = [
        f"<tr><th><code>{html.escape(name)}</code><td>{html.escape(text)}"
        for name, text in rows.items()
    ]
    return f"<table>{''.join(cells)}</table>"
