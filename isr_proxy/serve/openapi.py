"""The OpenAPI document of the admin API, made from its table of calls and the models.

Knows how a call is described. Must not know what it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from isr_proxy.serve.admin_models import ErrorReply

_REF: Final = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `handler` names a method of Admin; `query` has name and meaning of each parameter."""

    method: str
    path: str
    handler: str
    summary: str
    reply: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    query: tuple[tuple[str, str], ...] = ()
    status: int = 200
    needs_token: bool = True


def document(calls: tuple[Call, ...], version: str) -> dict[str, Any]:
    """Build the document."""
    _, schema = models_json_schema(_models(calls), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {"title": "isr-proxy admin API", "version": version},
        "paths": paths,
        "components": {
            "schemas": schema["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _models(calls: tuple[Call, ...]) -> list[tuple[type[BaseModel], Literal["validation", "serialization"]]]:
    """Return each model once, as it is taken or as it is given."""
    found: dict[type[BaseModel], Literal["validation", "serialization"]] = {ErrorReply: "serialization"}
    for call in calls:
        if call.body is not None:
            found[call.body] = "validation"
        if call.reply is not None:
            found[call.reply] = "serialization"
    return list(found.items())


def _operation(call: Call) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": call.handler,
        "summary": call.summary,
        "parameters": [
            *_path_parameters(call.path),
            *(_query(name, meaning) for name, meaning in call.query),
        ],
        "responses": {
            str(call.status): {"description": "done", **_content(call.reply)},
            "default": {"description": "refused", **_content(ErrorReply)},
        },
        "security": [{"token": []}] if call.needs_token else [],
    }
    if call.body is not None:
        operation["requestBody"] = {"required": True, **_content(call.body)}
    return operation


def _content(model: type[BaseModel] | None) -> dict[str, Any]:
    if model is None:
        return {}
    return {"content": {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query(name: str, meaning: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}
