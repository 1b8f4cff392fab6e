"""The document of the commands is that of the table: what it says of a command is what is taken."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from jsonschema import Draft202012Validator
from sqlalchemy import select

from payouts.schemas.money import containers
from pool.admin.command import Guarded, Question
from pool.admin.commands import COMMANDS, execute
from pool.admin.desk import Desk
from pool.books.bookkeeper import BookTimes
from pool.books.store import Store
from pool.http_server import FAILURES
from pool.people.roles import host_account
from tests.judges.answers import DOCUMENT, as_published, schema_of_answer
from tests.pool.admin.people.test_changes import OF_A_POOL
from tests.stages.plant import plant
from tests.stages.waiting import until

TEXT = json.dumps(DOCUMENT)


def at(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_it_has_every_command_and_nothing_else() -> None:
    assert list(DOCUMENT["paths"]) == [f"/api/v1/{name}" for name in COMMANDS]
    for name, it in COMMANDS.items():
        by_url = isinstance(it, Question) and not it.tells
        methods = ["get", "post"] if by_url else ["post"]
        assert list(DOCUMENT["paths"][f"/api/v1/{name}"]) == methods, name
    found = [it["operationId"] for path in DOCUMENT["paths"].values() for it in path.values()]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("name", [name for name, it in COMMANDS.items() if isinstance(it, Question)])
def test_what_is_in_a_url_is_what_is_in_a_body(name: str) -> None:
    """Nothing in it is in something else."""
    operations = DOCUMENT["paths"][f"/api/v1/{name}"]
    if "get" not in operations:
        return
    asked = [it for it in operations["get"]["parameters"] if it["in"] == "query"]
    fields = {it.encode_name: it.required for it in msgspec.structs.fields(COMMANDS[name].params)}
    assert {it["name"]: it["required"] for it in asked} == fields
    assert not [it for it in asked if {"array", "object"} & set(re.findall(r"\w+", json.dumps(it["schema"])))]


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
    made = {"202"} if isinstance(COMMANDS[name], Guarded) else set()
    assert set(operation["responses"]) == {"200", *made, *map(str, FAILURES)}
    assert ("break-glass" in {it["name"] for it in operation["parameters"]}) is bool(made)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_answers(name: str) -> None:
    """By what its function returns: no command is told of as anything, or as an object of anything."""
    told = schema_of_answer(name)
    assert told.get("items", told) not in ({}, {"type": "object"}), COMMANDS[name].result


def test_every_schema_is_one() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def containers_of(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.scalars(select(containers.c.name)))


NOBODY_YET = ("power.signals", "held.list")  # asks, and is held off: their rooms' tests have some


async def test_what_a_running_pool_answers_is_what_was_said(tmp_path: Path) -> None:
    """With figures of whoever mines; tests/pool/admin/people/test_changes.py gives all other commands."""
    async with plant(tmp_path, books=BookTimes(fold_s=1.0)) as site:
        await site.mine(await site.mining())
        desk = Desk(site.store, "regtest", site.running.live)
        await until(lambda: bool(containers_of(site.store)))  # the next fold makes their rows
        examples: dict[str, dict[str, Any]] = {
            "trace.start": {"name": "acme.c01.u0"},
            "trace.show": {"trace": 1},
            "drain.begin": {},
            "drain.show": {},
            "drain.end": {},
            "tenant.list": {},
            "tenant.show": {"name": "acme"},
            "container.list": {},
            "site.list": {},
            "worker.list": {},
            "worker.show": {"name": "acme.c01.u0"},
            "lease.show": {},
            "reject.show": {"worker": "acme.c01.u0"},
            "firmware.list": {},
            "power.signals": {},
            "held.list": {},
            "power.machines": {},
            "power.minutes": {"tenant": "acme"},
            "power.read": {"machines": ["acme.c01.u0"]},
            "model.set": {"container": "acme.c01", "model": "Antminer S21"},
            "power.reduce": {"machine": "acme.c01.u0", "watts": 2_000},
        }
        for name, params in examples.items():
            body = msgspec.json.encode(params)
            told = await trio.to_thread.run_sync(execute, desk, name, body, host_account("ann", "socket"))
            as_published(name, told)
            assert told not in ([], {}) or name in NOBODY_YET, name
            if name.endswith(".list") and name not in (
                "firmware.list",
                *NOBODY_YET,
            ):  # told every few seconds
                assert told[0]["accepted"] == 1
    assert set(examples) >= OF_A_POOL - {"settings.reload"}, (
        "which tests/pool/admin/test_live_settings.py gives"
    )


def test_the_codes_in_the_document_for_people_are_those_that_there_are() -> None:
    text = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    said = [(int(status), code) for status, code in re.findall(r"^\| (\d{3}) \| `([a-z_]+)` \|", text, re.M)]
    assert said == [(status, code) for status, codes in FAILURES.items() for code in codes]
