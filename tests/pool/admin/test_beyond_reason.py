"""Whoever gives a command a number that nothing can be, or half of what it takes, is told so: it is his
mistake, and neither ours nor the database's."""

from typing import Any

import msgspec
import pytest

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.people.roles import host_account

HOUR_OF_YEAR_10000 = 70_389_528
ENERGY = {"name": "spot", "currency": "USD", "source": "a file"}
MISTAKES: dict[str, tuple[str, dict[str, Any], str]] = {
    "an hour that no column takes": (
        "tariff.import",
        ENERGY | {"hours": [[1 << 62, 5]]},
        "an hour before 1970, or after the year 9999",
    ),
    "an hour that no calendar has": (
        "tariff.import",
        ENERGY | {"hours": [[HOUR_OF_YEAR_10000, 5]]},
        "an hour before 1970, or after the year 9999",
    ),
    "an event at the end of numbers": (
        "power.curtail",
        {"target": "everything", "from_s": (1 << 63) - 1},
        "an event begins after 1970, and before the year 10000",
    ),
    "a fee of which nobody has said that it is one": (
        "hosting.set",
        {"tenant": "acme", "charge": "tariff", "fee_micro": 5},
        "a fee has a price and a currency, and nothing else has",
    ),
    "a fee in no currency": (
        "hosting.set",
        {"tenant": "acme", "charge": "fee", "fee_micro": 5},
        "a fee has a price and a currency, and nothing else has",
    ),
    "no address where there was none": (
        "address.set",
        {"machine": "acme.c01.u1"},
        "nothing is said of it, and nothing was before",
    ),
}


@pytest.mark.parametrize(("name", "params", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_words(store: Store, name: str, params: dict[str, Any], words: str) -> None:
    desk, who = Desk(store, "regtest"), host_account("olga", ALONE)
    execute(desk, "tenant.add", msgspec.json.encode({"name": "acme"}), who)
    with pytest.raises(RegistryError, match=words):
        execute(desk, name, msgspec.json.encode(params), who)
    before = execute(desk, "change.list", b"{}", who)
    assert [it["command"] for it in before] == ["tenant.add"]
