"""How long an event lasts at least and at most: by the settings, at every door."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pool.admin.commands import execute_alone
from pool.books.store import Store
from pool.config import BadConfig, load_config
from pool.fleet.registry_error import RegistryError
from pool.power.curtailment import asking
from pool.power.curtailment.durations import USUAL, Durations
from pool.power.curtailment.events import NewEvent
from pool.power.signals.bounds import Bounds
from pool.power.signals.call import Called
from pool.power.signals.event_books import EventBooks
from pool.power.signals.intake import Intake
from tests.histories.power import NOW_S, add_container
from tests.pool.test_config import GOOD

HOUR_S = 3_600
SHORT = Durations(least_s=1_800, longest_s=2 * HOUR_S)
WORDS = r"lasts for 30 min to 2 h \(power\.least_minutes and power\.longest_hours of the settings\)"


def test_without_settings_it_is_ten_minutes_to_seven_days_and_a_day_where_nobody_says() -> None:
    assert (USUAL.least_s, USUAL.longest_s, USUAL.usual_s) == (600, 7 * 86_400, 86_400)
    assert SHORT.usual_s == 2 * HOUR_S
    assert Durations(least_s=2 * 86_400, longest_s=4 * 86_400).usual_s == 2 * 86_400


def test_settings_say_it_and_what_cannot_be_is_refused(tmp_path: Path) -> None:
    def read(more: str) -> Durations:
        path = tmp_path / "angara.toml"
        path.write_text(f"{GOOD}\n[power]\n{more}")
        return load_config(path).durations

    assert read("") == USUAL
    assert read("least_minutes = 30\nlongest_hours = 2") == SHORT
    with pytest.raises(BadConfig, match=r"power\.least_minutes: is more than longest_hours"):
        read("least_minutes = 61\nlongest_hours = 1")
    with pytest.raises(BadConfig, match=r"longest_hours"):
        read("longest_hours = 745")


def test_a_person_is_held_to_it_by_command_line_and_api(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/angara.db"

    def give(command: str, **params: Any) -> Any:
        body = msgspec.json.encode(params)
        return execute_alone(url, "regtest", command, body, by="root", durations=SHORT)

    give("tenant.add", name="acme")
    from_s = 2_000_000_000
    for source in ("cli", "api"):
        asked = {"target": "everything", "from_s": from_s, "source": source}
        for until_s in (from_s + 1_799, from_s + 2 * HOUR_S + 1):
            with pytest.raises(RegistryError, match=WORDS):
                give("power.curtail", until_s=until_s, **asked)
        assert give("power.curtail", until_s=from_s + 1_800, **asked)["until_s"] == from_s + 1_800
        assert give("power.curtail", **asked)["until_s"] == from_s + 2 * HOUR_S


@pytest.mark.sqlite_suffices
def test_signals_are_held_to_it_also_when_they_change_one_and_may_end_it_before(store: Store) -> None:
    with store.write() as connection:
        add_container(connection, "acme.c01", 1, site="north")
    events = EventBooks(store, dry_run=False, durations=SHORT, wall_clock=lambda: NOW_S)
    intake = Intake(events, Bounds(), wall_clock=lambda: NOW_S)
    intake.open("webhook", "")

    def take(lasts_s: int) -> tuple[bool, str]:
        called = Called(
            reference="grid-1",
            site="north",
            target="limit",
            target_value=1_000_000,
            from_s=NOW_S,
            until_s=NOW_S + lasts_s,
            ramp_s=60,
        )
        (answer,) = intake.take("webhook", [called])
        return answer.taken, answer.words

    assert take(1_799)[0] is False
    assert "lasts for 30 min to 2 h" in take(2 * HOUR_S + 1)[1]
    assert "lasts for 30 min to 2 h" in intake.sources[0].refused
    assert take(HOUR_S) == (True, "asked")
    assert take(1_799)[0] is False
    assert take(1_800) == (True, "changed")
    assert intake.restore("webhook", "grid-1").words == "restored"


@pytest.mark.sqlite_suffices
def test_one_that_goes_on_keeps_its_end_whatever_settings_say_by_then(store: Store) -> None:
    new = NewEvent(
        source="webhook",
        reference="a",
        target="limit",
        target_value=1,
        from_s=NOW_S,
        until_s=NOW_S + 86_400,
        ramp_s=0,
    )
    asking.ask(store, new, by="grid", now_s=NOW_S)

    def change(until_s: int) -> Any:
        return asking.change(
            store,
            "webhook",
            "a",
            target_value=2,
            until_s=until_s,
            by="grid",
            now_s=NOW_S,
            durations=SHORT,
        )

    assert change(NOW_S + 86_400).target_value == 2
    with pytest.raises(RegistryError, match=WORDS):
        change(NOW_S + 86_401)
