"""A certificate on disk: loaded, checked, renewed while in use."""

import datetime
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from structlog.testing import capture_logs

from stratum.miners.listening.certificate import BadCertificate, Certificate

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write(path: Path, authority: trustme.CA, *, days: int = 90, from_day: int = -90) -> str:
    """One PEM file with key and chain; never with the stamp of the file that it replaces."""
    begin, end = (NOW + datetime.timedelta(days=it) for it in (from_day, days))
    issued = authority.issue_cert("pool.test", not_before=begin, not_after=end)
    draft = path.with_suffix(".new")
    issued.private_key_and_cert_chain_pem.write_to_path(str(draft))
    os.replace(draft, path)
    return str(path)


def events(logs: list[Any]) -> list[str]:
    return [entry["event"] for entry in logs]


def serial(context: ssl.SSLContext, authority: trustme.CA) -> object:
    """The serial number of the certificate that the context shows to clients."""
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname="pool.test")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = client.getpeercert()
    assert certificate is not None
    return certificate["serialNumber"]


def test_good_certificate_is_used_without_a_word(tmp_path: Path, authority: trustme.CA) -> None:
    with capture_logs() as logs:
        certificate = Certificate(write(tmp_path / "pool.pem", authority), None)
        assert certificate.context() is certificate.context()
    assert logs == []
    assert certificate.problem is None
    assert certificate.until == (NOW + datetime.timedelta(days=90)).strftime("%Y-%m-%d")


def test_key_may_have_a_file_of_its_own(tmp_path: Path, authority: trustme.CA) -> None:
    issued = authority.issue_cert("pool.test")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    assert Certificate(str(chain), str(key)).problem is None


def test_renewed_certificate_counts_from_the_next_connection_on(
    tmp_path: Path, authority: trustme.CA
) -> None:
    path = tmp_path / "pool.pem"
    certificate = Certificate(write(path, authority), None)
    before = serial(certificate.context(), authority)
    write(path, authority)
    with capture_logs() as logs:
        after = serial(certificate.context(), authority)
        assert serial(certificate.context(), authority) == after
    assert after != before
    assert events(logs) == ["certificate_renewed"]


@pytest.mark.parametrize("fault", ["gone", "empty", "half", "expired", "early", "key of another"])
def test_bad_new_certificate_leaves_the_old_one_in_force_and_is_an_alarm_once(
    fault: str, tmp_path: Path, authority: trustme.CA
) -> None:
    path = tmp_path / "pool.pem"
    certificate = Certificate(write(path, authority), None)
    before = serial(certificate.context(), authority)
    good = path.read_bytes()
    if fault == "gone":
        path.unlink()
    elif fault == "expired":
        write(path, authority, days=-1)
    elif fault == "early":
        write(path, authority, from_day=2)
    elif fault == "key of another":
        other = authority.issue_cert("pool.test")
        chain = good[good.index(b"-----BEGIN CERTIFICATE-----") :]
        path.write_bytes(other.private_key_pem.bytes() + chain)
    else:
        path.write_bytes(good[: len(good) // 2] if fault == "half" else b"")
    with capture_logs() as logs:
        for _ in range(3):
            assert serial(certificate.context(), authority) == before
    assert events(logs) == ["certificate_not_renewed"]
    write(path, authority)
    assert serial(certificate.context(), authority) != before, "a good one is taken after all"


def test_expired_certificate_is_used_under_protest(tmp_path: Path, authority: trustme.CA) -> None:
    with capture_logs() as logs:
        certificate = Certificate(write(tmp_path / "pool.pem", authority, days=-3), None)
        for _ in range(5):
            certificate.context()
    assert certificate.problem == "certificate has expired"
    assert events(logs) == ["certificate_not_valid"], "not once a connection"


def test_certificate_that_is_not_valid_yet_is_used_under_protest(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logs:
        certificate = Certificate(write(tmp_path / "pool.pem", authority, from_day=2), None)
    assert certificate.problem == "certificate is not yet valid"
    assert certificate.until == (NOW + datetime.timedelta(days=90)).strftime("%Y-%m-%d")
    assert events(logs) == ["certificate_not_valid"]
    monkeypatch.setattr(
        "stratum.miners.listening.certificate.time.time", lambda: NOW.timestamp() + 3 * 86_400
    )
    assert certificate.problem is None


@pytest.mark.parametrize(
    ("usages", "problem"),
    [
        ([ExtendedKeyUsageOID.CLIENT_AUTH], "certificate is not for servers"),
        ([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH], None),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], None),
        ([], None),
    ],
)
def test_certificate_is_for_servers(
    usages: list[x509.ObjectIdentifier], problem: str | None, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pool.test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(NOW - datetime.timedelta(days=1))
    builder = builder.not_valid_after(NOW + datetime.timedelta(days=90))
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    issued = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "pool.pem"
    path.write_bytes(private + issued.public_bytes(Encoding.PEM))
    assert Certificate(str(path), None).problem == problem


def test_certificate_expires_while_in_use(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Certificate(write(tmp_path / "pool.pem", authority, days=90), None)
    day_s = 86_400
    alarms = []
    start_s = NOW.timestamp()
    for day in range(0, 100, 5):
        monkeypatch.setattr(
            "stratum.miners.listening.certificate.time.time", lambda day=day: start_s + day * day_s
        )
        monkeypatch.setattr(
            "stratum.miners.listening.certificate.time.monotonic", lambda day=day: 1e6 + day * day_s
        )
        with capture_logs() as logs:
            certificate.context()
            certificate.context()
        alarms.append(events(logs))
    assert alarms[:16] == [[]] * 16
    assert alarms[16:18] == [["certificate_expires_soon"]] * 2
    assert alarms[18:] == [["certificate_not_valid"]] * 2
    assert certificate.problem == "certificate has expired"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b"", "cannot use the certificate"),
        (b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "cannot use the certificate"),
    ],
)
def test_certificate_that_cannot_be_used_is_refused_in_words(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "pool.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadCertificate, match=words) as caught:
        Certificate(str(path), None)
    assert "pool.pem" in str(caught.value)


def test_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(
    tmp_path: Path, authority: trustme.CA
) -> None:
    issued = authority.issue_cert("pool.test")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    path = tmp_path / "pool.pem"
    path.write_bytes(locked + issued.cert_chain_pems[0].bytes())
    with pytest.raises(BadCertificate, match="cannot use the certificate"):
        Certificate(str(path), None)
