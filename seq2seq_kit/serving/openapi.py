"""The OpenAPI document of a server, and a page that shows it without scripts or other hosts."""

import html
from collections.abc import Sequence
from typing import Any

from seq2seq_kit import __version__, bounds
from seq2seq_kit.config import DecodingConfig
from seq2seq_kit.serving import inspection
from seq2seq_kit.serving.bodies import MAX_BANNED_TEXTS, GenerateBody, Limits
from seq2seq_kit.serving.tf_serving import SIGNATURES

_ERRORS = {
    "400": "The request is wrong; `error` says why.",
    "401": "The token is missing or wrong.",
    "403": "The server does not answer to this name, or to pages of that host.",
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

_OF_SEARCHES = ("serving_default", "n_best")

_TEXTS: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"type": "string"}}


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
                **_inspect_schemas(models, limits),
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
    """Returns the schema of the body of `:predict`: a form for each way to name the inputs."""
    texts = _TEXTS | {"maxItems": limits.texts}
    number = {"type": "integer", "minimum": 1, "maximum": limits.beam_size}
    inputs: dict[str, dict[str, Any]] = {
        "inputs": texts,
        "targets": texts,
        "num_samples": number,
        "seed": {"type": "integer", "minimum": 0, "maximum": bounds.SEEDS - 1},
        "max_length": number | {"maximum": limits.max_length},
    }
    search = [*_OF_SEARCHES, ""]
    pair = _object(dict.fromkeys(SIGNATURES["score"], _TEXTS["items"]))
    forms = [
        _form(search, "instances", texts, optional=["signature_name"]),
        _form(search, "inputs", texts, optional=["signature_name"]),
        _form(["score"], "instances", texts | {"items": pair}),
    ]
    for name, names in SIGNATURES.items():
        if name not in _OF_SEARCHES:
            columns = _object({one: inputs[one] for one in names})
            if name == "continue":
                columns["additionalProperties"] = {"type": "array"}
            forms.append(_form([name], "inputs", columns))
    return {"oneOf": forms}


def _form(
    signatures: Sequence[str], name: str, schema: dict[str, Any], optional: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns the schema of a body with the inputs of signatures under a name."""
    signature = {
        "enum": list(signatures),
        "description": f"The signature: {', '.join(filter(None, SIGNATURES))}.",
    }
    described = {**schema, "description": f"The inputs, in the format of `{name}`."}
    return _object({"signature_name": signature, name: described}, optional)


def _object(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the schema of an object that has these properties only."""
    return {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
        "properties": properties,
    }


def _inspect_schemas(models: Sequence[str], limits: Limits) -> dict[str, Any]:
    """Returns the schemas of the bodies that look inside a model, and of their parts."""
    schemas: dict[str, Any] = {}
    for look in inspection.LOOKS.values():
        schema = look.body.model_json_schema(ref_template="#/components/schemas/{model}")
        parts = schema.pop("$defs", {})
        fields = schema["properties"]
        fields["model"] = {
            "enum": [*models, *([None] if len(models) == 1 else [])],
            "description": _text(fields["model"]),
        }
        for name in ("text", "output", "prefix"):
            if name in fields:
                fields[name]["maxLength"] = limits.characters
        if "beam_size" in fields:
            fields["beam_size"]["maximum"] = limits.beam_size
        required = ["model"] if len(models) > 1 else []
        schemas |= parts | {look.body.__name__: schema | {"required": required}}
    for schema in schemas.values():
        schema.pop("title", None)
        for field in schema["properties"].values():
            field.pop("title", None)
    return schemas


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
    errors = ("400", "401", "403", "404", "408", "413", "500", "503", "504")
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
                "TensorFlow Serving's Predict API, with the signatures of an export",
                predicted,
                errors,
                body="PredictRequest",
            ),
        },
        "/v1/models/{name}": {
            "parameters": [name],
            "get": _operation(
                "status", "TensorFlow Serving's Model status API", status, ("401", "403", "404")
            ),
        },
        "/inspect": {
            "get": _operation(
                "inspect",
                "What the page needs to know of the models and limits",
                _answer("The models and limits.", {"type": "object"}),
                ("401", "403"),
            )
        },
        **{
            f"/inspect/{name}": {
                "post": _operation(
                    f"inspect_{name}",
                    f"For the page: {look.summary}",
                    _answer("What was found.", {"type": "object"}),
                    errors,
                    body=look.body.__name__,
                )
            }
            for name, look in inspection.LOOKS.items()
        },
        "/health": {
            "get": _operation(
                "health",
                "Whether all models answer; needs no token",
                _answer("They do.", {"type": "object"}),
                ("403",),
            )
            | {"security": []}
        },
        "/metrics": {
            "get": _operation(
                "metrics",
                "Metrics in Prometheus's text format",
                {"description": "Metrics.", "content": {"text/plain": {}}},
                ("401", "403"),
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
