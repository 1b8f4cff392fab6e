"""docs/sites.md as far as it can be followed here: the certificates that it has one make are those that NATS
servers and their clients take."""

import socket
import ssl
import subprocess
from pathlib import Path
from typing import Final

import pytest

from pool.sites.nats.server_settings import Certificates
from tests.fixtures.nats_servers import Keys, NatsServer
from tests.stages.chapter import Block, steps_of

SITES: Final = Path(__file__).parents[2] / "docs" / "sites.md"
SERVERS: Final = ("n1", "n2", "n3")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which somebody typed the chapter."""
    home = tmp_path_factory.mktemp("certificates")
    (block,) = [it for it in steps_of(SITES, "Keys and certificates") if isinstance(it, Block)]
    subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], cwd=home, check=True, capture_output=True)
    return home


def greeting(server: NatsServer, authorities: Path, name: str) -> bytes:
    """What it says first to a client that looks closely."""
    context = ssl.create_default_context(cafile=str(authorities))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT  # what a later Python does by itself
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        return secured.recv(5)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_known_by_its_certificate_and_by_no_other_name(
    made: Path, name: str, tmp_path: Path
) -> None:
    files = Certificates(
        certificate=made / f"{name}.pem", key=made / f"{name}.key", authorities=made / "ca.pem"
    )
    server = NatsServer(tmp_path, Keys(tmp_path, ()), name, files)
    try:
        server.start()
        assert greeting(server, made / "ca.pem", f"{name}.example") == b"INFO "
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            greeting(server, made / "ca.pem", "n4.example")
    finally:
        server.remove()


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_servers_of_a_cluster_take_each_other_at_both_ends(made: Path, purpose: str) -> None:
    verify = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem"]
    files = [f"{it}.pem" for it in SERVERS]
    told = subprocess.run([*verify, *files], cwd=made, capture_output=True, text=True)
    assert told.stdout.splitlines() == [f"{it}: OK" for it in files], told.stderr
