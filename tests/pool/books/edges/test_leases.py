"""Who may be an edge: one process at a time, whose journal is the one that is here, with its own numbers."""

import base64
import binascii
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, insert, update

from pool.books.edges import rows
from pool.books.edges.leases import LEASE_S, Asked, EdgeRefused, begin, check_epoch, granted, renew
from pool.books.edges.rows import (
    PART_RESTS_S,
    EdgePlace,
    EdgeRecord,
    add_edge,
    find_edge,
    is_nkey,
    load_edges,
    release_edge,
    reset_edge,
    retire_edge,
    set_edge,
)
from pool.books.edges.schema import edges
from pool.books.journal.positions import uid_of
from pool.books.journal.schema import journal_positions
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.journal.frames import Place
from pool.journal.inbox import Want
from tests.fixtures.databases import add_tenant
from tests.stages.journal import NOW_S
from tests.stages.site_journal import new_nkey

WRITER, OTHER = "a" * 32, "b" * 32
NOWHERE, PLACE = Place(), Place(7, b"7" * 16)


@pytest.fixture
def booked(store: Store) -> Store:
    """Books with two tenants, and an edge north that may count for one of them."""
    with store.write() as connection:
        add_tenant(connection, 1, "acme")
        add_tenant(connection, 2, "borealis")
        add(connection, "north")
    return store


def write(store: Store, work: Callable[[Any], Any]) -> Any:
    with store.write() as connection:
        return work(connection)


def add(connection: Any, name: str, now_s: int = NOW_S) -> EdgeRecord:
    return add_edge(connection, name, new_nkey(), [EdgePlace("acme")], ths=None, by="ann", now_s=now_s)


def asked(**changes: Any) -> Asked:
    first = Asked(edge="north", host="host-1", process="process 1", writer=WRITER)
    return msgspec.structs.replace(first, **changes)


def begun(store: Store, here: Place = NOWHERE, now_s: int = NOW_S, **changes: Any) -> EdgeRecord:
    with store.write() as connection:
        return begin(connection, asked(**changes), here, now_s)


def test_an_edge_that_begins_is_told_its_part_of_the_numbers_and_its_epoch(booked: Store) -> None:
    edge = begun(booked)
    with booked.read() as connection:
        told = granted(connection, edge, Want(behind=0, whole_file=True))
        assert told.book == uid_of(connection)
    assert (told.part, told.of, told.epoch, told.booked) == (1, 256, 1, Place())
    assert begun(booked, last=PLACE, process="process 2").epoch == 2, "the same host, started again"


REFUSED: dict[str, tuple[Callable[[Store], Any], dict[str, Any], Place, str]] = {
    "unknown": (lambda store: None, {"edge": "south"}, Place(), "there is no edge 'south'"),
    "retired": (
        lambda store: write(store, lambda it: retire_edge(it, "north", NOW_S)),
        {},
        Place(),
        "edge north is retired",
    ),
    "another host": (
        begun,
        {"host": "host-2"},
        Place(),
        "edge north is process 1 on host-1, heard of 0 s ago: stop that one first",
    ),
    "another journal": (
        begun,
        {"writer": OTHER},
        Place(),
        "has the journal a+, and comes with b+: if the first",
    ),
    "put back from a copy": (begun, {"last": Place(6, b"6" * 16)}, PLACE, "ends with record 6, and record 7"),
    "nothing where there was something": (begun, {}, PLACE, "ends with record 0, and record 7 of it is here"),
    "went on from a copy": (
        begun,
        {"last": Place(7, b"8" * 16)},
        PLACE,
        "record 7 .* is another one than is",
    ),
    "the journal of before": (
        lambda store: (begun(store), write(store, lambda it: reset_edge(it, "north", NOW_S))),
        {},
        Place(),
        "was put out of use: edge north is to begin another one",
    ),
    "a path": (lambda store: None, {"writer": "../../../etc"}, Place(), "is no journal's name"),
}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("fault", REFUSED)
def test_who_may_not_begin_is_told_why(booked: Store, fault: str) -> None:
    before, changes, here, words = REFUSED[fault]
    before(booked)
    with booked.read() as connection:
        was = load_edges(connection)
    with pytest.raises(EdgeRefused, match=words):
        begun(booked, here, **changes)
    with booked.read() as connection:
        assert load_edges(connection) == was, "nothing is changed by who is refused"


@pytest.mark.sqlite_suffices
def test_a_journal_that_ends_before_what_the_books_have_is_refused_though_its_copy_is_lost(
    booked: Store,
) -> None:
    begun(booked, last=PLACE)
    with booked.write() as connection:
        row = {
            "writer": WRITER,
            "number": 7,
            "digest": PLACE.digest.hex(),
            "moment_s": 0,
            "until_number": 7,
            "rows_done": 0,
            "transactions": 0,
            "accepted": 0,
            "before": 0,
        }
        connection.execute(insert(journal_positions).values(row))
    with pytest.raises(EdgeRefused, match="ends with record 3, and record 7 of it is here"):
        begun(booked, last=Place(3, b"3" * 16))
    assert begun(booked, last=PLACE).epoch == 2


@pytest.mark.sqlite_suffices
def test_a_journal_of_this_host_or_of_another_edge_is_nobodys_to_bring(booked: Store) -> None:
    with booked.write() as connection:
        add(connection, "south")
    begun(booked)
    with pytest.raises(EdgeRefused, match=r"the journal a+ is not of edge south"):
        begun(booked, edge="south")


def test_another_host_takes_over_when_the_lease_is_over_and_the_former_one_is_refused(booked: Store) -> None:
    first = begun(booked)
    write(booked, lambda it: renew(it, "north", first.epoch, NOW_S + 60))
    with pytest.raises(EdgeRefused, match="heard of 29 s ago"):
        begun(booked, host="host-2", now_s=NOW_S + LEASE_S - 1)
    second = begun(booked, host="host-2", process="process 9", now_s=NOW_S + 60 + LEASE_S)
    assert second.epoch == first.epoch + 1
    with pytest.raises(EdgeRefused, match="epoch 1 of edge north is over: process 9 on host-2 is it now"):
        check_epoch(second, first.epoch)
    with pytest.raises(EdgeRefused, match="epoch 1 of edge north is over"):
        write(booked, lambda it: renew(it, "north", first.epoch, NOW_S + 61))
    write(booked, lambda it: renew(it, "north", second.epoch, NOW_S + 61))


@pytest.mark.sqlite_suffices
def test_an_epoch_that_is_not_yet_means_books_of_before(booked: Store) -> None:
    with pytest.raises(EdgeRefused, match="epoch 1 here, and 5 is said: the books were put back"):
        check_epoch(begun(booked), 5)


# Parts of the numbers


def test_an_edge_that_begins_another_journal_has_another_part_which_rests_for_a_month(booked: Store) -> None:
    begun(booked)
    again = write(booked, lambda it: reset_edge(it, "north", NOW_S))
    assert (again.part, again.writer, again.host) == (2, None, None)
    assert begun(booked, writer=OTHER).epoch == 3, "the epoch of before is over at once"
    assert write(booked, lambda it: add(it, "south")).part == 3
    later_s = NOW_S + PART_RESTS_S
    assert write(booked, lambda it: add(it, "west", later_s)).part == 1, "nobody mines with it any more"


@pytest.mark.sqlite_suffices
def test_there_are_255_parts(booked: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PARTS", 3)
    assert write(booked, lambda it: add(it, "south")).part == 2
    with pytest.raises(RegistryError, match="all 2 parts of the numbers are edges'"):
        write(booked, lambda it: add(it, "west"))
    write(booked, lambda it: retire_edge(it, "south", NOW_S))
    assert write(booked, lambda it: add(it, "west")).part == 2, "it never had a journal: nobody mined with it"


# What it is


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": "North 1"}, "is no name of an edge: small letters, digits and hyphens, at most 32"),
    "a name that subjects do not have": ({"name": "north_1"}, "is no name of an edge"),
    "the hub's": ({"name": "hub"}, "and not 'hub'"),
    "a name that is taken": ({"name": "north"}, "there is, or was, an edge north already"),
    "no key": ({"nkey": "UABC"}, "is not the public NKey of a user"),
    "an account's key": ({"nkey": "A" + "A" * 55}, "is not the public NKey of a user"),
    "no tenant": ({"places": [EdgePlace("caucasus")]}, "there is no tenant 'caucasus'"),
    "nobody": ({"places": []}, "counts for 1 to 1000 tenants or containers"),
    "no nameplate": ({"ths": -1}, "TH/s must be 0 to"),
}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("fault", WRONG)
def test_what_is_no_edge_is_told_in_words(booked: Store, fault: str) -> None:
    changes, words = WRONG[fault]
    good = {"name": "south", "nkey": new_nkey(), "places": [EdgePlace("acme")], "ths": 900}
    given: dict[str, Any] = good | changes
    with pytest.raises(RegistryError, match=words):
        write(
            booked,
            lambda it: add_edge(
                it, given["name"], given["nkey"], given["places"], ths=given["ths"], by="ann", now_s=NOW_S
            ),
        )


def test_what_an_edge_may_count_for_is_changed_as_a_whole(booked: Store) -> None:
    edge = write(
        booked, lambda it: set_edge(it, "north", places=[EdgePlace("borealis", "c 07"), EdgePlace("acme")])
    )
    assert [it.words for it in edge.places] == ["acme", "borealis.c 07"]
    assert write(booked, lambda it: set_edge(it, "north", ths=5)).places == edge.places
    with pytest.raises(RegistryError, match="not held"):
        write(booked, lambda it: release_edge(it, "north"))


@pytest.mark.sqlite_suffices
def test_a_key_is_one_edges(booked: Store) -> None:
    with booked.read() as connection:
        nkey = find_edge(connection, "north").nkey
    with pytest.raises(RegistryError, match="is, or was, another edge's"):
        write(
            booked,
            lambda it: add_edge(it, "south", nkey, [EdgePlace("acme")], ths=None, by="ann", now_s=NOW_S),
        )


def test_a_key_is_known_by_its_checksum() -> None:
    nkey = new_nkey()
    assert is_nkey(nkey)
    assert not is_nkey(nkey[:-1] + ("A" if nkey[-1] != "A" else "B"))
    account = bytes([0]) + secrets.token_bytes(32)
    checksum = binascii.crc_hqx(account, 0).to_bytes(2, "little")
    assert not is_nkey(base64.b32encode(account + checksum).decode())


def test_the_rows_of_edges_stay(booked: Store) -> None:
    begun(booked)
    for statement in (
        edges.delete(),
        update(edges).values(epoch=0),
        update(edges).values(name="south"),
    ):
        with pytest.raises(Exception, match="edges only grows"):
            write(booked, partial(Connection.execute, statement=statement))
