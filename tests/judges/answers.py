"""What is answered, judged by the document that is published of it."""

import json
import re
from functools import cache
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator

from pool.web.openapi import openapi

DOCUMENT: Final[dict[str, Any]] = json.loads(msgspec.json.encode(openapi()))


def schema_of_answer(name: str) -> dict[str, Any]:
    operation = DOCUMENT["paths"][f"/api/v1/{name}"]["post"]
    schema: dict[str, Any] = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return schema


def as_published(name: str, answer: Any) -> Any:
    """The answer; raises where it is not of the command's schema, as it goes over the wire."""
    _validator(name).validate(json.loads(msgspec.json.encode(answer)))
    return answer


class Published:
    """The document of a running pool, which has all its paths."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def operation(self, method: str, path: str) -> dict[str, Any]:
        """Raises KeyError for what is not in it."""
        paths: dict[str, Any] = self.document["paths"]
        named = [it for it in paths if it == path or re.fullmatch(re.sub(r"{\w+}", ".+", it), path)]
        for it in sorted(named, key=path.__ne__):
            found: dict[str, Any] = paths[it][method.lower()]
            return found
        raise KeyError(f"{method} {path} is not in the document")

    def judge(self, method: str, path: str, status: int, media: str, body: bytes) -> None:
        """Raises where the answer is not of what is said of it."""
        answer = self.operation(method, path)["responses"][str(status)]
        if "$ref" in answer:
            answer = self.document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        if "content" in answer and "*/*" not in answer["content"]:
            schema = answer["content"][media.partition(";")[0]]["schema"]
            if "json" in media:
                self._validate(schema, json.loads(body))

    def judge_event(self, path: str, event: str, data: Any) -> None:
        self._validate(self.operation("GET", path)["responses"]["200"]["x-events"][event], data)

    def _validate(self, schema: dict[str, Any], value: Any) -> None:
        Draft202012Validator(schema | {"components": self.document["components"]}).validate(value)


@cache
def _validator(name: str) -> Any:
    return Draft202012Validator(schema_of_answer(name) | {"components": DOCUMENT["components"]})
