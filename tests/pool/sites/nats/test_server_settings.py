"""The settings of a NATS server as its own check takes them; what it would not take, or what would let too
many in, is said in words before."""

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pool.settings_file import BadConfig
from pool.sites.nats.server_settings import ROUTES_MAX, Certificates, Cluster, Server, settings_of
from tests.fixtures.nats_servers import BINARY
from tests.stages.site_journal import new_nkey

HUB, OSLO = new_nkey(), new_nkey()
SEED = "SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4"


def server(home: Path, **changes: Any) -> Server:
    given: dict[str, Any] = {
        "name": "n1",
        "listen": "127.0.0.1:4222",
        "store": home / "store",
        "hubs": (HUB,),
        "edges": {"oslo": OSLO},
    }
    return Server(**(given | changes))


def certificates(home: Path, **changes: Path) -> Certificates:
    files = Certificates(certificate=home / "n1.pem", key=home / "n1.key", authorities=home / "ca.pem")
    return msgspec.structs.replace(files, **changes)


def cluster(*routes: str, listen: str = "127.0.0.1:6222") -> Cluster:
    return Cluster(listen=listen, routes=routes)


def test_a_path_in_any_letters_is_taken_by_the_server_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / 'площадка "7" \\ $HOME # {}'
    home.mkdir()
    file = home / "nats.conf"
    file.write_text(settings_of(server(home)), encoding="utf-8")
    ran = subprocess.run([BINARY, "-t", "-c", file], capture_output=True, text=True)
    assert (ran.returncode, "is valid" in ran.stdout + ran.stderr) == (0, True), ran.stderr


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no hub": ({"hubs": ()}, "one to 8 keys of hubs"),
    "a name with a space": ({"name": "n 1"}, "'n 1' is no name of a server"),
    "a name that is none": ({"name": ""}, "is no name of a server"),
    "an edge's name": ({"edges": {"Oslo": OSLO}}, "'Oslo' is no name of an edge: small letters"),
    "the hub's name": ({"edges": {"hub": OSLO}}, "and not 'hub'"),
    "a secret as a key": ({"hubs": (SEED,)}, "the secret half of a key"),
    "a secret as a name": ({"edges": {SEED: OSLO}}, "what has 58 characters is no name of an edge"),
    "a secret with a mark": ({"edges": {"oslo": f" {SEED}"}}, "one begins with U and has 56 characters"),
    "no key": ({"edges": {"oslo": "U"}}, "one begins with U and has 56 characters"),
    "a key with another letter": (
        {"edges": {"oslo": OSLO[:-1] + ("A" if OSLO[-1] != "A" else "B")}},
        "a character of it is wrong",
    ),
    "a key in no letters": ({"edges": {"oslo": "U" + "ø" * 55}}, "a character of it is wrong"),
    "an account's key": ({"edges": {"oslo": "UF" + OSLO[2:]}}, "a character of it is wrong"),
    "one key of two": ({"edges": {"oslo": HUB}}, "two of them have one key"),
    "no port": ({"listen": "127.0.0.1"}, "'127.0.0.1' is no host:port"),
    "a port alone": ({"listen": "4222"}, "is no host:port"),
    "port 0": ({"listen": "127.0.0.1:0"}, "is no host:port"),
    "a port beyond all": ({"listen": "127.0.0.1:65536"}, "is no host:port"),
    "more than an address": ({"listen": "127.0.0.1:4222\nport: 1"}, "is no host:port"),
    "others without TLS": ({"listen": "0.0.0.0:4222"}, "0.0.0.0:4222 is for other hosts too"),
    "a cluster without TLS": (
        {"cluster": cluster("127.0.0.1:6223", listen="10.0.0.1:6222")},
        "10.0.0.1:6222 is for other hosts too",
    ),
    "a route without TLS": ({"cluster": cluster("n2.example:6222")}, "n2.example:6222 is for other hosts"),
    "a route with a name in it": ({"cluster": cluster("me:secret@127.0.0.1:6222")}, "is no host:port"),
    "no route": ({"cluster": cluster()}, "one to 16 routes"),
    "many routes": ({"cluster": cluster(*["localhost:6222"] * (ROUTES_MAX + 1))}, "one to 16 routes"),
    "a relative directory": ({"store": Path("store")}, "'store' is no absolute path"),
    "a directory in two lines": ({"store": Path("/a\nb")}, "is no absolute path"),
    "a relative key": (
        {"certificates": certificates(Path("/etc"), key=Path("n1.key"))},
        "'n1.key' is no absolute path",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_told_in_words_and_no_secret_is(fault: str, tmp_path: Path) -> None:
    changes, words = WRONG[fault]
    with pytest.raises(BadConfig) as refused:
        settings_of(server(tmp_path, **changes))
    assert words in str(refused.value)
    assert SEED[:12] not in str(refused.value)
