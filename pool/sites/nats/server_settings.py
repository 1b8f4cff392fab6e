"""The settings of our NATS servers, as nats-server reads them: who is let in by which key, and what he
may say.

An edge may say what is its own, and hear what is for it, and found blocks. It has no right to anything of
JetStream: its journal goes into the stream by its subject, and the acknowledgement comes to its inbox.
The hub may do everything that is Angara's, and make the stream.

Whoever joins a cluster of servers has all rights, so servers show each other certificates; clients show keys.
TLS begins before the first line of the protocol, where nobody can talk anybody out of it.

Must not know: files of keys, and where a server runs.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from pool.fleet.edge_names import NAME_CHARS_MAX, NAME_WORDS, is_edge_name
from pool.settings_file import BadConfig
from pool.sites.nats import subjects
from pool.sites.nats.key import checked_public

# The largest block is 4 MB and goes in one message; a record of a journal is rarely a hundredth of that.
PAYLOAD_BYTES_MAX: Final = 8 << 20
STORE_BYTES_MAX: Final = 20 << 30  # the stream's 16 GiB, and what a file has beyond them
UNREAD_BYTES_MAX: Final = 64 << 20  # of a client that does not read, before it is dropped
CONNECTIONS_MAX: Final = 1_000  # 256 edges, each while an old connection of it is not yet known to be dead
SUBSCRIPTIONS_MAX: Final = 2_000  # of one connection: the hub has four an edge, and three twice at times
# What a power cut takes is asked for again from the journals; a sync for each message would slow all of them.
SYNC_INTERVAL: Final = "10s"
WRITE_DEADLINE: Final = "60s"  # 8 MB over a line of a megabit
PING_INTERVAL: Final = "20s"
HUBS_MAX: Final = 8
EDGES_MAX: Final = 256
ROUTES_MAX: Final = 16  # a cluster has three servers; five where somebody is careful
PORT_MAX: Final = 65_535
_SERVER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_ADDRESS: Final = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?):[1-9][0-9]{0,4}"
)


class Certificates(msgspec.Struct, frozen=True, kw_only=True):
    """Of one server, in PEM; `authorities` is whose certificates of the others' are good."""

    certificate: Path
    key: Path
    authorities: Path


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Of three: `routes` are host:port of all of them."""

    listen: str
    routes: tuple[str, ...]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Keys are public ones; without certificates it is for this host alone."""

    name: str
    listen: str  # host:port
    store: Path
    hubs: tuple[str, ...]
    edges: Mapping[str, str]  # by name
    certificates: Certificates | None = None
    cluster: Cluster | None = None


def hub_rights() -> dict[str, list[str]]:
    """What the hub may publish, and hear."""
    return {
        "publish": ["angara.>", "$JS.API.>", f"$JS.ACK.{subjects.JOURNAL_STREAM}.>", "_INBOX.>"],
        "subscribe": ["angara.>", f"{subjects.inbox_of(subjects.HUB)}.>"],
    }


def edge_rights(name: str) -> dict[str, list[str]]:
    """What an edge may."""
    return {
        "publish": [f"angara.hub.{name}.>", subjects.journal_of(name), subjects.blocks_of(name)],
        "subscribe": [
            f"angara.edge.{name}.>",
            subjects.blocks_of(subjects.HUB),
            f"{subjects.inbox_of(name)}.>",
        ],
    }


def settings_of(server: Server) -> str:
    """As a file for `nats-server -c`. Raises BadConfig."""
    _check(server)
    lines = [
        f"server_name: {_text(server.name)}",
        f"listen: {_text(server.listen)}",
        f"max_payload: {PAYLOAD_BYTES_MAX}",
        f"max_pending: {UNREAD_BYTES_MAX}",
        f"max_connections: {CONNECTIONS_MAX}",
        f"max_subscriptions: {SUBSCRIPTIONS_MAX}",
        f"write_deadline: {_text(WRITE_DEADLINE)}",
        f"ping_interval: {_text(PING_INTERVAL)}",
        "ping_max: 2",
    ]
    if server.certificates is not None:
        lines += _block("tls", [*_files(server.certificates), "handshake_first: true", 'min_version: "1.3"'])
    lines += _block(
        "jetstream",
        [
            f"store_dir: {_text(str(server.store))}",
            f"max_file_store: {STORE_BYTES_MAX}",
            f"sync_interval: {_text(SYNC_INTERVAL)}",
        ],
    )
    users = [(key, "the hub", hub_rights()) for key in server.hubs]
    users += [(key, f"edge {name}", edge_rights(name)) for name, key in sorted(server.edges.items())]
    lines += _block("authorization", ["users: [", *(f"  {line}" for it in users for line in _user(*it)), "]"])
    if server.cluster is not None:
        routes = ", ".join(_text(f"nats-route://{it}") for it in server.cluster.routes)
        lines += _block("cluster", [*_cluster(server, server.cluster), f"routes: [{routes}]"])
    return "\n".join([*lines, ""])


def _cluster(server: Server, cluster: Cluster) -> list[str]:
    lines = ["name: angara", f"listen: {_text(cluster.listen)}", "no_advertise: true"]
    if server.certificates is not None:
        authorities = f"ca_file: {_text(str(server.certificates.authorities))}"
        lines += _block("tls", [*_files(server.certificates), authorities, "verify: true"])
    return lines


def _user(key: str, who: str, rights: Mapping[str, list[str]]) -> list[str]:
    return [
        f"# {who}",
        "{",
        f"  nkey: {key}",
        "  permissions: {",
        *(f"    {it}: {{ allow: {json.dumps(names)} }}" for it, names in rights.items()),
        "  }",
        "}",
    ]


def _files(certificates: Certificates) -> list[str]:
    return [
        f"cert_file: {_text(str(certificates.certificate))}",
        f"key_file: {_text(str(certificates.key))}",
    ]


def _block(name: str, lines: list[str]) -> list[str]:
    return [f"{name} {{", *(f"  {line}" for line in lines), "}"]


def _text(text: str) -> str:
    """Which is printable: its servers know fewer escapes than JSON has."""
    return json.dumps(text, ensure_ascii=False)


def _check(server: Server) -> None:
    if not 1 <= len(server.hubs) <= HUBS_MAX or len(server.edges) > EDGES_MAX:
        raise BadConfig(f"give one to {HUBS_MAX} keys of hubs, and at most {EDGES_MAX} edges")
    if not _SERVER_NAME.fullmatch(server.name):
        raise BadConfig(f"{server.name!r:.100} is no name of a server: letters, digits, hyphens and dots")
    for name in server.edges:
        if not is_edge_name(name):
            # One that is too long may be a key.
            shown = repr(name) if len(name) <= NAME_CHARS_MAX else f"what has {len(name)} characters"
            raise BadConfig(f"{shown} is no name of an edge: {NAME_WORDS}")
    keys = [*server.hubs, *server.edges.values()]
    for key in keys:
        checked_public(key)
    if len(set(keys)) < len(keys):
        raise BadConfig("two of them have one key: whoever has it would be both")
    _check_addresses(server)
    _check_paths(server)


def _check_addresses(server: Server) -> None:
    addresses = [server.listen]
    if server.cluster is not None:
        if not 1 <= len(server.cluster.routes) <= ROUTES_MAX:
            raise BadConfig(f"give one to {ROUTES_MAX} routes to the servers of the cluster")
        addresses += [server.cluster.listen, *server.cluster.routes]
    for address in addresses:
        if not _ADDRESS.fullmatch(address) or int(address.rpartition(":")[2]) > PORT_MAX:
            raise BadConfig(f"{address!r:.100} is no host:port")
        host = address.rpartition(":")[0].strip("[]")
        if server.certificates is None and host not in ("127.0.0.1", "::1", "localhost"):
            raise BadConfig(f"{address} is for other hosts too: give a certificate")


def _check_paths(server: Server) -> None:
    paths = [server.store]
    if (its := server.certificates) is not None:
        paths += [its.certificate, its.key, its.authorities]
    for path in paths:
        if not path.is_absolute() or not str(path).isprintable():
            raise BadConfig(f"{str(path)!r} is no absolute path: nats-server may be begun anywhere")
