"""What commands answer, judged by the document that is published of them."""

import json
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


@cache
def _validator(name: str) -> Any:
    return Draft202012Validator(schema_of_answer(name) | {"components": DOCUMENT["components"]})
