"""What the commands over HTTP are, for programs: an OpenAPI document of the table of commands itself.

Must not know: what a command does.
"""

import inspect
from typing import Any, Final

import msgspec

from pool.admin.command import Change, Guarded, Question
from pool.admin.commands import COMMANDS
from pool.admin.handler import KEY, KEY_HEADER, NEXT_CURSOR
from pool.admin.requests.views import MadeRequest
from pool.http_server import FAILURES, Code
from pool.requests.made import GLASS, REQUEST_MADE

VERSION: Final = "3.1.0"
REF: Final = "#/components/schemas/{name}"
TEXT_HEADER: Final = {"schema": {"type": "string"}}
BREAK_GLASS: Final = {
    "name": GLASS,
    "in": "query",
    "description": "An admin's reason why it must not wait for a second person; everybody is told.",
    "schema": {"type": "string"},
}
IDEMPOTENCY_KEY: Final = {
    "name": KEY_HEADER,
    "in": "header",
    "description": "Of your own choice, another one for each change: who asks again with it and the same"
    " parameters changes nothing more, and is told what was answered. It is kept for a day.",
    "schema": {"type": "string", "pattern": f"^{KEY.pattern}$"},
}


def openapi() -> dict[str, Any]:
    """The document; the same for the same code."""
    commands = COMMANDS.values()
    types = [*(it.params for it in commands), *(it.result for it in commands), MadeRequest]
    described, schemas = msgspec.json.schema_components(types, ref_template=REF)
    params, results = described[: len(commands)], described[len(commands) : -1]
    failure = {
        "type": "object",
        "required": ["error", "code"],
        "properties": {"error": {"type": "string"}, "code": {"enum": sorted(Code)}},
    }
    return {
        "openapi": VERSION,
        "info": {"title": "Angara", "version": "1"},
        "security": [{"token": []}],
        "components": {
            "schemas": {**schemas, "Failure": failure},
            "responses": {
                str(status): _content({"$ref": REF.format(name="Failure")}, ", ".join(codes))
                for status, codes in FAILURES.items()
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "paths": {
            f"/api/v1/{name}": _path(name, it, taken, schemas, result)
            for (name, it), taken, result in zip(COMMANDS.items(), params, results, strict=True)
        },
    }


def _path(
    name: str,
    command: Question | Change,
    params: dict[str, Any],
    schemas: dict[str, Any],
    result: dict[str, Any],
) -> dict[str, Any]:
    post = _operation(name, command, params, result)
    if isinstance(command, Change) or command.tells:
        return {"post": post}
    taken = schemas[params["$ref"].rpartition("/")[2]]
    get = {it: value for it, value in post.items() if it != "requestBody"}
    get["operationId"] = f"{name}.get"
    get["parameters"] = [
        {"name": field, "in": "query", "required": field in taken.get("required", ()), "schema": schema}
        for field, schema in taken["properties"].items()
    ]
    get["parameters"].append({"name": "If-None-Match", "in": "header", "schema": {"type": "string"}})
    answered = post["responses"]["200"]
    headers = answered.get("headers", {}) | dict.fromkeys(("ETag", "Link"), TEXT_HEADER)
    told = {"200": answered | {"headers": headers}, "304": {"description": "It is what If-None-Match says."}}
    return {"get": get | {"responses": told | post["responses"] | told}, "post": post}


def _operation(
    name: str, command: Question | Change, params: dict[str, Any], result: dict[str, Any]
) -> dict[str, Any]:
    function = command.answer if isinstance(command, Question) else command.carry_out
    kind = "question" if isinstance(command, Question) else "change"
    said = inspect.cleandoc(function.__doc__ or command.params.__doc__ or "")
    paged = isinstance(command, Question) and command.paged
    headers = {"headers": {NEXT_CURSOR: TEXT_HEADER}} if paged else {}
    made = {}
    if isinstance(command, Guarded):
        made = {str(REQUEST_MADE): _content({"$ref": REF.format(name="MadeRequest")}, "It waits.")}
    failed = {str(status): {"$ref": f"#/components/responses/{status}"} for status in FAILURES}
    return {
        "operationId": name,
        "tags": [name.partition(".")[0]],
        "summary": f"A {kind}, for {command.least} and above.",
        "description": said,
        "x-least-role": command.least,
        "parameters": [
            *([IDEMPOTENCY_KEY] if isinstance(command, Change) else ()),
            *([BREAK_GLASS] if isinstance(command, Guarded) else ()),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": params}}},
        "responses": {"200": _content(result, "The result.") | headers, **made, **failed},
    }


def _content(schema: dict[str, Any], words: str) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}
