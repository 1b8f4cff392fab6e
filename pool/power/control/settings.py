"""Which machines may be told something at all: the networks they stand in, and whether anything is sent.

A machine's address is chosen by whoever has the machine. So nothing is sent out of `networks`, and to this
host, to one's link or to a group of hosts only where a network is named that has nothing else: 0.0.0.0/0
has not 127.0.0.1, and not 169.254.169.254. Must not know: who is asked, and what.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

import msgspec

from pool.settings_file import BadConfig, path_in

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Of [power]."""

    dry_run: bool = True
    networks: tuple[Network, ...] = ()
    key_file: Path | None = None

    def allows(self, address: Address) -> bool:
        """Whether something may be sent there."""
        return any(_has(network, address) for network in self.networks)


def control_settings(dry_run: bool, networks: list[str], key_file: str | None, base: Path) -> ControlSettings:
    """Raises BadConfig."""
    if not dry_run and not networks:
        raise BadConfig("power.networks: without one no machine is told anything; or leave dry_run on")
    return ControlSettings(
        dry_run=dry_run,
        networks=tuple(_network(it) for it in networks),
        key_file=None if key_file is None else path_in(base, key_file, "power.key_file"),
    )


def address_of(text: str) -> Address | None:
    """What is one, as numbers: a name would be whatever who answers for it likes."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise BadConfig(f"power.networks: {text!r:.60} is not a network, like 10.0.0.0/16") from None


def _has(network: Network, address: Address) -> bool:
    if address not in network:
        return False
    if address.is_unspecified or address.is_multicast:
        return False
    special = ("is_loopback", "is_link_local")
    return all(not getattr(address, it) or getattr(network, it) for it in special) and not _broadcast(address)


def _broadcast(address: Address) -> bool:
    return address == IPv4Address("255.255.255.255")
