"""Nameplates as a table: what goes out comes in again, as spreadsheets save it, whole or not at all."""

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.fleet.nameplates import LINES_MAX, Nameplate, decoded, read, written
from pool.fleet.registry_error import RegistryError
from pool.people.roles import host_account
from tests.fixtures.databases import store_in

NAMES = st.text(st.sampled_from("c0é=+-@'\";,|\t "), min_size=1, max_size=8).filter(
    lambda it: it.isprintable() and it == it.strip()
)
NUMBERS = st.none() | st.integers(0, 10**9)
PLATES = st.lists(
    st.builds(
        Nameplate,
        tenant=st.sampled_from(["acme", "zeta"]),
        container=NAMES,
        site=st.none() | NAMES,
        units=NUMBERS,
        ths=NUMBERS,
        kw=NUMBERS,
    ),
    unique_by=lambda it: (it.tenant, it.container),
    max_size=5,
)
ONE = [Nameplate(tenant="acme", container="c01", units=400, ths=44_000)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PLATES)
def test_what_goes_out_comes_in_again_and_no_cell_is_a_formula(rows: list[Nameplate]) -> None:
    table = written(rows)
    assert read(table) == rows
    assert not [line for line in table.splitlines() if line.startswith(("=", "+", "-", "@"))]
    assert read(decoded(table.encode("utf-8-sig"))) == rows
    assert read(decoded(table.encode("utf-16"))) == rows


@pytest.mark.parametrize(
    "data",
    [
        b"tenant,container,units,ths\r\nacme,c01,400,44000\r\n",
        b"\xef\xbb\xbftenant;container;units;ths\r\nacme;c01;400;44000\r\n",
        b"sep=;\r\ntenant;container;units;ths\r\nacme;c01;400;44000\r\n\r\n;;;\r\n",
        "Tenant\tContainer\tTHS\tunits\nacme\tc01\t44000\t400".encode("utf-16"),
        b'"ths","units","container","tenant","site"\n44000,400,"c01","acme",\n',
    ],
)
def test_a_table_is_read_as_spreadsheets_save_it(data: bytes) -> None:
    assert read(decoded(data)) == ONE


def test_letters_of_western_europe_are_read_whichever_way_they_are_saved() -> None:
    for encoding in ("utf-8", "cp1252"):
        [row] = read(decoded("tenant;container;site\nacme;c01;Zürich".encode(encoding)))
        assert row.site == "Zürich"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "line 1: the columns tenant and container"),
        ("tenant,units\nacme,4", "line 1: the columns tenant and container"),
        ("tenant,container,mw\n", "line 1: there is no column 'mw'"),
        ("tenant,container,ths\nacme,c01,44.000", "line 2: ths is '44.000', and must be a whole number"),
        ("tenant,container,ths\nacme,c01,-1\nacme,c02,\u0661", "line 2: ths .*; line 3: ths "),
        ("sep=,\ntenant,container,ths\nacme,c01,x", "line 3: ths"),
        ("tenant,container\nacme,c01\nacme,c01", "line 3: acme.c01 has a line before"),
        ("tenant,container\nacme,", "line 2: it has no tenant, or no container"),
        ("tenant,container\nacme,c01,7", "line 2: it has 3 cells, and there are 2 columns"),
        (f"tenant,container\nacme,{'c' * 64}", "line 2: a container has at most 63"),
        ('tenant,container\nacme,"c01', "this is no table"),
        ("tenant,container\n" + "x,\n" * 30, "line 21: .*; and 10 more. Nothing was changed"),
        ("tenant,container\n" + "\n" * (LINES_MAX + 1), "at most 2000 lines"),
    ],
)
def test_what_is_wrong_is_said_by_line(table: str, words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        read(table)


def test_a_table_is_imported_whole_or_not_at_all_and_compared_before(tmp_path: Path) -> None:
    with closing(store_in(tmp_path)) as store:

        def give(name: str, /, **params: Any) -> Any:
            desk, olga = Desk(store, "regtest"), host_account("olga", ALONE)
            return msgspec.to_builtins(execute(desk, name, msgspec.json.encode(params), olga))

        give("tenant.add", name="acme")
        give("container.set", tenant="acme", name="c01", units=400, ths=44_000)
        before = give("container.export")
        table = "tenant,container,site,units\nacme,c01,north,400\nacme,c02,,420\n"
        wanted = [
            {"tenant": "acme", "name": "c01", "change": "site north"},
            {"tenant": "acme", "name": "c02", "change": "new, units 420"},
        ]
        assert give("container.compare", table=table) == wanted
        for wrong in (f"{table}nobody,c03,,1\n", f"{table}acme,c03,,x\n"):
            with pytest.raises(RegistryError):
                give("container.import", table=wrong)
            assert give("container.export") == before
        assert give("container.import", table=table) == wanted
        assert give("container.import", table=table) == []
        assert give("container.export")["table"].splitlines() == [
            "tenant,container,site,units,ths,kw",
            "acme,c01,north,400,44000,",
            "acme,c02,,420,,",
        ]
        subjects = [it["subject"] for it in give("change.list") if it["command"] == "container.import"]
        assert sorted(subjects) == ["acme.c01", "acme.c02"]
