"""Whose an address is, where anybody may say anybody's name: what a thief on the machines' network gets."""

import msgspec

from pool.power.control.contract import Firmware, MachineName
from pool.power.control.peers import LATELY_S, Peer, Peers, accepted_by, mined_from, peers_by_name


def peers(*rows: tuple[str, str, bool], tenant: str = "acme", agent: str = "btminer") -> Peers:
    return Peers(
        tenant=tenant,
        container="c01",
        units=tuple(it[0] for it in rows),
        addresses=tuple(it[1] for it in rows),
        agents=(agent,) * len(rows),
        accepted=bytes(it[2] for it in rows),
    )


def names(*told: Peers) -> set[str]:
    return {it.unit for it in peers_by_name(told)}


def test_a_machine_that_is_alone_at_its_address_is_there() -> None:
    found = peers_by_name([peers(("u1", "10.0.0.1", True), ("u1", "10.0.0.1", True))])
    assert found == {MachineName("acme", "c01", "u1"): Peer("10.0.0.1", Firmware.WHATSMINER)}


def test_who_has_no_accepted_share_is_nowhere() -> None:
    assert names(peers(("u1", "10.0.0.1", False))) == set()


def test_machines_behind_one_address_are_nowhere_also_by_different_processes() -> None:
    assert names(peers(("u1", "10.0.0.1", True), ("u2", "10.0.0.1", True))) == set()
    assert names(peers(("u1", "10.0.0.1", True)), peers(("u2", "10.0.0.1", True))) == set()


def test_a_name_without_shares_makes_an_address_nobodys_all_the_same() -> None:
    assert names(peers(("u1", "10.0.0.1", True)), peers(("x", "10.0.0.1", False), tenant="evil")) == set()


def test_a_thief_who_mines_under_a_name_gets_nothing_but_that_nobody_is_told() -> None:
    """He is told nothing while the machine mines; its own address has to be given by hand then."""
    assert names(peers(("u1", "10.0.0.1", True), ("u1", "10.6.6.6", True))) == set()
    # A thief who has no accepted share under the name, which is to say who mined nothing for the tenant,
    # changes nothing.
    assert names(peers(("u1", "10.0.0.1", True), ("u1", "10.6.6.6", False))) == {"u1"}


def test_the_last_share_of_a_name_from_each_address_is_told_and_what_is_long_ago_is_no_mining() -> None:
    told = peers(("u1", "10.0.0.1", True), ("u1", "10.0.0.1", True), ("u1", "10.6.6.6", True))
    more = msgspec.structs.replace(told, ages_s=(40, 7, LATELY_S))
    assert accepted_by([more]) == {MachineName("acme", "c01", "u1"): {"10.0.0.1": 7, "10.6.6.6": LATELY_S}}
    assert mined_from([more]) == {MachineName("acme", "c01", "u1"): frozenset({"10.0.0.1"})}
    assert mined_from([told]) == {}  # a version that does not say
