"""Where machines mine from, as those say who serve them, and whose address that is.

A name may be said by anybody, from anywhere. So an address is a machine's where nobody else is at it, and
where this machine is at no other; and where shares were accepted, for which whoever says the name works for
the tenant. What is left to a thief, and what it costs him, is in docs/threats.md.

Must not know: who is asked, and what is sent to an address.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from pool.power.control.contract import Firmware, MachineName
from pool.power.control.firmware import firmware_of

LATELY_S: Final = 600  # a connection without a share for longer is idle, and says nothing of who mines


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """Connections of a container's machines, by their units: a machine may have several. `accepted`: for each
    a byte, 1 where it had an accepted share; `ages_s` of its last one, in whole seconds, of those that had
    (empty: of a version that does not say)."""

    tenant: str
    container: str
    units: tuple[str, ...]
    addresses: tuple[str, ...]
    agents: tuple[str, ...]
    accepted: bytes
    ages_s: tuple[int, ...] = ()


class Peer(msgspec.Struct, frozen=True):
    """Where a machine is, and what it says that it runs."""

    address: str
    firmware: Firmware


def peers_by_name(told: Iterable[Peers]) -> dict[MachineName, Peer]:
    """Of what all say who serve miners at one site; whose address is not his alone is not in it."""
    at: dict[str, set[MachineName]] = {}
    mine: dict[MachineName, set[str]] = {}
    found: dict[MachineName, Peer] = {}
    for it in told:
        for unit, address, agent, accepted in zip(
            it.units, it.addresses, it.agents, it.accepted, strict=False
        ):
            name = MachineName(it.tenant, it.container, unit)
            at.setdefault(address, set()).add(name)
            if accepted:
                mine.setdefault(name, set()).add(address)
                found[name] = Peer(address, firmware_of(agent))
    return {name: peer for name, peer in found.items() if len(mine[name]) == 1 and len(at[peer.address]) == 1}


def accepted_by(told: Iterable[Peers]) -> dict[MachineName, dict[str, int]]:
    """By machine and address, how long ago the last share was accepted under its name from there."""
    found: dict[MachineName, dict[str, int]] = {}
    for it in told:
        for unit, address, accepted, age_s in zip(
            it.units, it.addresses, it.accepted, it.ages_s, strict=False
        ):
            if accepted:
                ages_s = found.setdefault(MachineName(it.tenant, it.container, unit), {})
                ages_s[address] = min(age_s, ages_s.get(address, age_s))
    return found


def mined_from(told: Iterable[Peers]) -> dict[MachineName, frozenset[str]]:
    """From where shares were accepted under each name lately."""
    found = {
        name: frozenset(address for address, age_s in ages_s.items() if age_s < LATELY_S)
        for name, ages_s in accepted_by(told).items()
    }
    return {name: addresses for name, addresses in found.items() if addresses}
