"""The operator's commands for events: on a book without a pool, as a person gives them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pool.admin.commands import execute_alone
from pool.fleet.registry_error import RegistryError


@pytest.fixture
def give(tmp_path: Path) -> Any:
    url = f"sqlite:///{tmp_path}/angara.db"

    def give(command: str, **params: Any) -> Any:
        return execute_alone(url, "regtest", command, msgspec.json.encode(params), by="root")

    give("tenant.add", name="acme")
    give("container.set", tenant="acme", name="c01", site="north")
    return give


def test_an_event_needs_no_name_and_each_without_one_is_another(give: Any) -> None:
    first = give("power.curtail", target="share", target_value=1_000)
    second = give("power.curtail", target="share", target_value=1_000)
    assert (first["id"], second["id"]) == (1, 2)
    assert first["reference"] != second["reference"]


def test_an_event_with_a_name_is_asked_for_once(give: Any) -> None:
    from_s = 2_000_000_000
    asked = {"target": "everything", "reference": "grid-1", "from_s": from_s, "site": "north"}
    assert give("power.curtail", **asked)["id"] == give("power.curtail", **asked)["id"] == 1
    with pytest.raises(RegistryError, match="was another event"):
        give("power.curtail", **asked | {"from_s": from_s + 60})
    now = {"target": "everything", "reference": "grid-2"}
    assert give("power.curtail", **now) == give("power.curtail", **now)
    assert [it["reference"] for it in give("power.list")] == ["grid-1", "grid-2"]


def test_break_even_without_a_tariff_is_refused_in_words(give: Any) -> None:
    with pytest.raises(RegistryError, match="nobody knows what a kWh costs at north now"):
        give("power.plan", target="break_even", site="north")
    assert give("power.plan", target="break_even", target_value=500)["machines"] == 0


def test_an_event_that_has_not_begun_is_called_off(give: Any) -> None:
    give("power.curtail", target="everything", site="north")
    assert give("power.restore", event=1)["state"] == "cancelled"
    with pytest.raises(RegistryError, match=r"has no machine 'acme\.c01\.u9'"):
        give("power.release", event=1, machine="acme.c01.u9")
    with pytest.raises(RegistryError, match="there is no event 7"):
        give("power.show", event=7)
