"""What is answered over HTTP, for programs: an OpenAPI document of the table of commands and of the routes
themselves.

Of a stream of events, which OpenAPI 3.1 has no words for, `x-events` says what the data of each are.

Must not know: what a command does.
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pool.admin.command import Change, Guarded, Question
from pool.admin.commands import COMMANDS
from pool.admin.handler import KEY, KEY_HEADER, NEXT_CURSOR
from pool.admin.requests.views import MadeRequest
from pool.http_server import FAILURES, Code
from pool.requests.made import GLASS, REQUEST_MADE
from pool.web.access import COOKIE, Access, Told, WebRoute

VERSION: Final = "3.1.0"
REF: Final = "#/components/schemas/{name}"
TEXT_HEADER: Final = {"schema": {"type": "string"}}
IF_NONE_MATCH: Final = {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}
NOT_CHANGED: Final = {"description": "It is what If-None-Match says."}
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


def openapi(routes: Sequence[WebRoute] = ()) -> dict[str, Any]:
    """The document; the same for the same code. `routes`: besides the commands."""
    commands = COMMANDS.values()
    types = [*(it.params for it in commands), *(it.result for it in commands), MadeRequest]
    of_routes = [kind for it in routes if it.told is not None for kind in _types(it.told)]
    described, schemas = msgspec.json.schema_components([*types, *of_routes], ref_template=REF)
    params, results = described[: len(commands)], described[len(commands) : len(types) - 1]
    failure = {
        "type": "object",
        "required": ["error", "code"],
        "properties": {"error": {"type": "string"}, "code": {"enum": sorted(Code)}},
    }
    return {
        "openapi": VERSION,
        "info": {"title": "Angara", "version": "1"},
        "security": [{"token": []}, {"session": []}],
        "components": {
            "schemas": {**schemas, "Failure": failure},
            "responses": {
                str(status): _content({"$ref": REF.format(name="Failure")}, ", ".join(codes))
                for status, codes in FAILURES.items()
            },
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
        "paths": {
            f"/api/v1/{name}": _path(name, it, taken, schemas, result)
            for (name, it), taken, result in zip(COMMANDS.items(), params, results, strict=True)
        }
        | {
            re.sub(":path}", "}", it.path): {it.method.lower(): _route(it, it.told, list(its), schemas)}
            for it, its in _with_schemas(routes, described[len(types) :])
            if it.told is not None
        },
    }


def _types(told: Told) -> list[Any]:
    """Those of one route, in their order."""
    taken = [] if told.takes is None else [told.takes]
    return [*taken, *([] if told.result is None else [told.result]), *(kind for _, kind in told.events)]


def _with_schemas(
    routes: Sequence[WebRoute], described: Sequence[dict[str, Any]]
) -> list[tuple[WebRoute, Sequence[dict[str, Any]]]]:
    found, at = [], 0
    for it in routes:
        count = 0 if it.told is None else len(_types(it.told))
        found.append((it, described[at : at + count]))
        at += count
    return found


def _route(
    it: WebRoute, told: Told, described: list[dict[str, Any]], schemas: dict[str, Any]
) -> dict[str, Any]:
    """A path that is no command."""
    taken = described.pop(0) if told.takes is not None else None
    result = described.pop(0) if told.result is not None else {"type": "string"}
    answered = {"description": told.words, "content": {told.media: {"schema": result}}}
    if told.events:
        answered["x-events"] = dict(zip((name for name, _ in told.events), described, strict=True))
    responses = {str(status): {"$ref": f"#/components/responses/{status}"} for status in FAILURES}
    if told.not_so is not None:
        failed = {"$ref": REF.format(name="Failure")}
        responses[str(told.not_so)] = _content({"anyOf": [result, failed]}, "It is not so, or not known.")
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)", it.path)
    ]
    if told.tagged:
        parameters.append(IF_NONE_MATCH)
        responses["304"] = NOT_CHANGED
        answered["headers"] = {"ETag": TEXT_HEADER}
    asked: dict[str, Any] = {}
    if taken is not None and it.method == "GET":
        parameters += _in_url(taken, schemas)
    elif taken is not None:
        asked = {"requestBody": {"required": True, "content": {"application/json": {"schema": taken}}}}
    security: dict[Access, dict[str, Any]] = {
        Access.ANYBODY: {"security": []},
        Access.SCRAPER: {"security": [{}, {"token": []}]},
    }
    who = it.access.value if it.least is None else f"{it.least} and above"
    return {
        "operationId": f"{it.method.lower()} {it.path}",
        "tags": ["paths"],
        "summary": f"For {who}.",
        "description": told.words,
        **({} if it.least is None else {"x-least-role": it.least}),
        **security.get(it.access, {}),
        "parameters": parameters,
        **asked,
        "responses": {"200": answered, **responses},
    }


def _in_url(taken: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """What is asked for there."""
    schema = schemas[taken["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    return [
        {"name": field, "in": "query", "required": field in required, "schema": it}
        for field, it in schema["properties"].items()
    ]


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
    get = {it: value for it, value in post.items() if it != "requestBody"}
    get["operationId"] = f"{name}.get"
    get["parameters"] = [*_in_url(params, schemas), IF_NONE_MATCH]
    answered = post["responses"]["200"]
    headers = answered.get("headers", {}) | dict.fromkeys(("ETag", "Link"), TEXT_HEADER)
    told = {"200": answered | {"headers": headers}, "304": NOT_CHANGED}
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
