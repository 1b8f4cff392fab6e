"""The document of the commands is that of the table: what it says of a command is what is taken."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pool.admin.commands import COMMANDS
from pool.admin.handler import FAILURES
from pool.web.openapi import openapi

TEXT = json.dumps(openapi())
DOCUMENT: dict[str, Any] = json.loads(TEXT)


def at(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_it_has_every_command_and_nothing_else() -> None:
    assert list(DOCUMENT["paths"]) == [f"/api/v1/{name}" for name in COMMANDS]
    assert {tuple(it) for it in DOCUMENT["paths"].values()} == {("post",)}


def test_whatever_it_points_at_is_there() -> None:
    references = set(re.findall(r'"\$ref": "([^"]+)"', TEXT))
    assert len(references) > len(COMMANDS)
    assert all(at(it) for it in references)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_parameters_are_those_that_are_taken(name: str) -> None:
    operation = DOCUMENT["paths"][f"/api/v1/{name}"]["post"]
    schema = at(operation["requestBody"]["content"]["application/json"]["schema"]["$ref"])
    fields = {it.encode_name: it.required for it in msgspec.structs.fields(COMMANDS[name].params)}
    assert set(schema["properties"]) == set(fields)
    assert set(schema.get("required", ())) == {field for field, required in fields.items() if required}
    assert schema["additionalProperties"] is False
    assert operation["x-least-role"] == COMMANDS[name].least
    assert set(operation["responses"]) == {"200", *map(str, FAILURES)}


def test_the_codes_in_the_document_for_people_are_those_that_there_are() -> None:
    text = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    said = {int(status): code for status, code in re.findall(r"^\| (\d{3}) \| `([a-z_]+)` \|", text, re.M)}
    assert said == FAILURES
