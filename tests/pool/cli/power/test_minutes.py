"""`angara power minutes` on the data directory of a pool, and `power.minutes` for who may ask it."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from pool.admin.power import minutes as asked
from pool.people.roles import Caller, Role
from pool.power.energy.nameplates import NewNameplate, set_nameplates
from tests.fixtures.databases import store_in
from tests.histories.power import HOUR, NOW_S, add_container, mined_in_minute
from tests.stages.command_line import angara
from tests.stages.people import give

FIRST = HOUR * 60
DAY = "2027-01-15"
ASKED_S = NOW_S + 5_430  # 09:30:30


@pytest.fixture
def mined(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An S19 Pro of acme and one of borealis, at one site, for an hour and a half."""
    monkeypatch.setattr(asked, "wall_s", lambda: ASKED_S)
    with closing(store_in(data_dir)) as store, store.write() as connection:
        for name in ("acme.c01", "borealis.c02"):
            add_container(connection, name, 1)
            model = NewNameplate(container=name, model="Antminer S19 Pro")
            set_nameplates(connection, [model], by="olga", now_s=NOW_S)
        for at in range(91):
            mined_in_minute(connection, FIRST + at, {1: 23, 2: 24})
    return data_dir


def told(home: Path, *words: str) -> list[dict[str, object]]:
    ran = angara(home, "power", "minutes", *words, "--json")
    assert ran.exit_code == 0, ran.output
    found: list[dict[str, object]] = json.loads(ran.output)
    return found


def test_the_last_hour_is_shown_and_all_that_is_kept_when_it_is_asked_for(mined: Path) -> None:
    rows = told(mined, "--container", "acme.c01")
    assert (len(rows), rows[0]["from"], rows[-1]["from"]) == (
        60,
        "2027-01-15T08:30:00Z",
        "2027-01-15T09:29:00Z",
    )
    assert rows[0] | {"from": ""} == {
        "of": "acme.c01",
        "from": "",
        "joules": 191_272,
        "watts": 3_187,
        "basis": "work",
        "error_bps": rows[0]["error_bps"],
        "metered_joules": 0,
        "hps": (23 << 48) // 60,
        "machines": 1,
        "unknown_machines": 0,
    }
    begins = [it["from"] for it in told(mined, "--site", "Bratsk", "--from", f"{DAY}T08:00")]
    assert len(begins) == len(set(begins)) == 90  # in two answers
    part = told(
        mined, "--machine", "borealis.c02.u1", "--from", "2027-01-15T08:00:01", "--to", "2027-01-15T08:04"
    )
    assert [(it["joules"], it["from"]) for it in part] == [
        (199_588, f"2027-01-15T08:0{at}:00Z") for at in (1, 2, 3)
    ]
    text = angara(mined, "power", "minutes", "--tenant", "acme", "--to", "2027-01-15T08:01").output
    assert text.splitlines()[-1].split("  ")[0] == "2027-01-15 08:00:00Z"
    assert "3,187 W" in text
    assert "0.0531 kWh" in text
    table = angara(mined, "power", "minutes", "--tenant", "acme", "--csv").output.splitlines()
    assert table[0] == "from,watts,joules,basis,error_bps,hps,machines,unknown_machines"
    assert table[1].startswith("2027-01-15T08:30:00Z,3187,191272,work,")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "say of what"),
        (("--tenant", "acme", "--machine", "acme.c01.u1"), "say of what"),
        (("--container", "acme.c09"), "there is no container"),
        (("--machine", "acme.c01.u9"), "there is no machine"),
        (("--tenant", "zeta"), "there is no tenant"),
        (("--site", "Zima"), "there is no site"),
        (
            ("--tenant", "acme", "--from", "2027-01-15T07:59"),
            "kept until their hour is over for an hour: now from",
        ),
        (("--tenant", "acme", "--to", "2027-01-15T07:00"), "09:00 UTC on"),
        (("--tenant", "acme", "--from", "2027-01-15T08:59", "--to", "2027-01-15T08:59"), "is not behind"),
    ],
)
def test_what_cannot_be_told_is_said(
    mined: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], why: str
) -> None:
    if "09:00" in why or "07:59" in str(words):
        monkeypatch.setattr(asked, "wall_s", lambda: ASKED_S + 1_800)  # 10:00:30: since 09:00 minutes
    refused = angara(mined, "power", "minutes", *words)
    assert (refused.exit_code, why in refused.output) == (2, True), refused.output


def test_of_many_machines_an_answer_has_fewer_minutes_and_the_command_all(
    mined: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = told(mined, "--site", "Bratsk")
    monkeypatch.setattr(asked, "MACHINE_MINUTES_AT_ONCE", 15)
    with closing(store_in(mined)) as store:
        assert len(give(store, "power.minutes", {"site": "Bratsk"})) == 7
    assert told(mined, "--site", "Bratsk") == whole


def test_of_minutes_that_become_hours_while_they_are_read_nothing_is_told(
    mined: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([NOW_S + 7_199, NOW_S + 7_200])
    monkeypatch.setattr(asked, "wall_s", lambda: next(clock))
    refused = angara(mined, "power", "minutes", "--tenant", "acme", "--from", "2027-01-15T08:00")
    assert "now from 09:00 UTC on" in refused.output


def test_a_tenants_user_sees_its_own_at_a_site_that_others_share(mined: Path) -> None:
    acmes = Caller(name="otto", source="test", role=Role.TENANT, tenant="acme", user_id=1)
    with closing(store_in(mined)) as store:
        whole = give(store, "power.minutes", {"site": "Bratsk"})
        own = give(store, "power.minutes", {"site": "Bratsk"}, acmes)
        assert (whole[0]["machines"], own[0]["machines"]) == (2, 1)
        assert own == give(store, "power.minutes", {}, acmes)
        assert give(store, "power.minutes", {"site": "Zima"}, acmes) == []
