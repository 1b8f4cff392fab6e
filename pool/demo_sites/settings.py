"""What the programs of several sites are told: settings as files, as an operator would write them, and keys.

Must not know: when a program runs.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from pool.demo import PAYOUT_ADDRESS
from pool.regtest.server import RegtestNode
from pool.sites.nats.key import new_key, public_of, seed_in
from pool.sites.nats.server_settings import Cluster, Server, settings_of

NETWORK_BITS: Final = 0x1D00FFFF  # no block is found: a share is worth no more than it would be elsewhere
DIFFICULTY: Final = 2.0**-24  # 256 hashes a share: machines here are threads of no ASIC
POOL: Final = f"""\
[pool]
network = "regtest"
data_dir = "data"
payout_address = "{PAYOUT_ADDRESS}"
tag = "/Angara demo/"

[[node]]
name = "embedded"
url = %(url)s
cookie_file = %(cookie)s

"""
HUB: Final = """\
[web]
listen = %(web)s

[hub]
nats = %(nats)s
key_file = %(key)s
"""
EDGE: Final = f"""\
[stratum]
listen = %(listen)s
difficulty_start = {DIFFICULTY!r}
difficulty_min = {DIFFICULTY!r}
difficulty_max = {DIFFICULTY!r}

[edge]
name = %(name)s
nats = %(nats)s
key_file = %(key)s
"""


class NatsPorts(msgspec.Struct, frozen=True):
    """Of one server of this host: for us, and for the other servers."""

    name: str
    clients: int
    routes: int


def nkey(seed: Path) -> str:
    """The public half of the key in that file, which is made at the first start. Raises BadConfig."""
    return public_of(seed_in(seed)) if seed.exists() else new_key(seed)


def write_nats(
    directory: Path, it: NatsPorts, all_of: Sequence[NatsPorts], hub: str, edges: Mapping[str, str]
) -> Path:
    """`hub` and `edges` are public keys."""
    return _written(
        directory / "nats.conf",
        settings_of(
            Server(
                name=it.name,
                listen=f"127.0.0.1:{it.clients}",
                store=nats_store(directory),
                hubs=(hub,),
                edges=edges,
                cluster=Cluster(
                    listen=f"127.0.0.1:{it.routes}",
                    routes=tuple(f"127.0.0.1:{other.routes}" for other in all_of),
                ),
            )
        ),
    )


def nats_store(directory: Path) -> Path:
    """Where JetStream of that server keeps what it carries."""
    return directory / "store"


def write_hub(directory: Path, node: RegtestNode, *, web: int, nats: Sequence[int], key: Path) -> Path:
    values = {"web": f"127.0.0.1:{web}", "nats": _urls(nats), "key": str(key)}
    return _written(directory / "angara.toml", _pool(node) + _filled(HUB, values))


def write_edge(
    directory: Path, node: RegtestNode, *, name: str, listen: str, nats: Sequence[int], key: Path
) -> Path:
    values = {"listen": [listen], "name": name, "nats": _urls(nats), "key": str(key)}
    return _written(directory / "angara.toml", _pool(node) + _filled(EDGE, values))


def data_of(directory: Path) -> Path:
    """The data directory of a hub or an edge."""
    return directory / "data"


def _pool(node: RegtestNode) -> str:
    return _filled(POOL, {"url": node.url, "cookie": str(node.cookie_file.absolute())})


def _filled(template: str, values: Mapping[str, object]) -> str:
    """JSON's texts and lists are TOML's."""
    return template % {name: json.dumps(value) for name, value in values.items()}


def _urls(ports: Sequence[int]) -> list[str]:
    return [f"nats://127.0.0.1:{port}" for port in ports]


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
