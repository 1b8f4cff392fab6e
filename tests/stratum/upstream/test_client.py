"""An upstream that is well: what our miners get, how shares go, who may know our account."""

import os
import random
import ssl
from pathlib import Path

import pytest
import structlog
import trio
import trustme
from trio.testing import MockClock

from stratum.upstream.client import Upstream
from stratum.upstream.endpoint import CA_BYTES_MAX, BadUpstream, UpstreamEndpoint, tls_context
from stratum.upstream.endpoint_state import PlaceState
from stratum.upstream.failover import UpstreamSettings
from stratum.upstream.probe import UnusableUpstream, probe_upstream
from stratum.upstream.shares import NotSent, RejectReason, SubmitVerdict
from tests.fakes.upstreams import (
    PASSWORD,
    REGTEST_NBITS,
    USER,
    HonestUpstream,
    Network,
    UpstreamThatRefusesTheAccount,
)
from tests.stages.upstream_clients import ACCEPTED, SETTINGS, Owner, UpstreamClient, endpoint, mining

# What our miners get


async def test_the_owner_learns_everything_before_the_first_job_and_then_that_it_is_up(
    autojump_clock: MockClock,
) -> None:
    async with mining(a=HonestUpstream()) as client:
        assert [what for _, what, _ in client.owner.told] == ["extranonce", "mask", "target", "work", "up"]
        assert client.owner.all("extranonce") == ["a1b2c3d4"]
        assert client.owner.all("mask") == [0x1FFFE000]
        assert client.owner.all("work") == [True]
        assert client.upstream.serving == endpoint("a.pool.example")


async def test_shares_are_accepted_and_counted_alike_on_both_sides(autojump_clock: MockClock) -> None:
    pool = HonestUpstream()
    async with mining(a=pool) as client:
        for nonce in range(1, 101):
            assert client.submit(nonce, prefix=nonce, rolled=0x2000 * (nonce % 5)) is None
        await client.answers(100)
        assert set(client.owner.verdicts.values()) == {ACCEPTED}
        assert len(pool.counted) == 100


async def test_a_pool_without_version_rolling_gets_five_parameters(autojump_clock: MockClock) -> None:
    pool = HonestUpstream(mask=None)
    async with mining(a=pool) as client:
        assert client.owner.all("mask") == [0]
        assert client.submit(1, rolled=0x2000) is NotSent.VERSION_OUTSIDE_MASK
        assert client.submit(2) is None
        await client.answers(1)
        assert client.owner.verdicts == {b"2": ACCEPTED}


async def test_an_upstream_that_changes_everything_in_mid_job(autojump_clock: MockClock) -> None:
    """Outcome: what is new is told before the first job that has it, and that job is clean."""
    pool = HonestUpstream()
    async with mining(a=pool) as client:
        told_before = len(client.owner.told)
        old = client.share(1)
        await pool.call.tell("mining.set_difficulty", 2.0**-31)
        pool.extranonce1 = pool.call.extranonce1 = "0102030405"
        pool.extranonce2_bytes = 6
        await pool.call.tell("mining.set_extranonce", "0102030405", 6)
        await trio.sleep(1)
        assert len(client.owner.told) == told_before, "it all belongs to the next job"
        await pool.call.notify(other_block=False, clean=False)
        await client.owner.wait_for(lambda: len(client.owner.works) == 2)
        assert client.owner.told[told_before:] == [
            (1.0, "extranonce", "0102030405"),
            (1.0, "target", 0xFFFF << 239),
            (1.0, "work", True),
        ]
        assert client.submit(2) is None
        assert client.send(old) is None
        await client.answers(2)
        assert client.owner.verdicts[b"2"] == ACCEPTED
        assert client.owner.verdicts[b"1"] == (SubmitVerdict.REJECTED, RejectReason.OTHER), (
            "its own size, as it was"
        )


async def test_a_narrower_mask_holds_at_once_and_what_cannot_be_said_is_not_sent(
    autojump_clock: MockClock,
) -> None:
    pool = HonestUpstream()
    async with mining(a=pool) as client:
        wide, narrow = client.share(1, rolled=0x10000000), client.share(2, rolled=0x2000)
        pool.call.mask = 0x0000E000
        await pool.call.tell("mining.set_version_mask", "0000e000")
        await client.owner.wait_for(lambda: client.owner.all("mask") == [0x1FFFE000, 0xE000])
        assert client.send(wide) is NotSent.VERSION_OUTSIDE_MASK
        assert client.send(narrow) is None
        await client.answers(1)
        assert client.owner.verdicts == {b"2": ACCEPTED}


async def test_a_share_below_the_upstream_difficulty_stays_here(autojump_clock: MockClock) -> None:
    pool = HonestUpstream()
    pool.difficulty = 1 << 40
    async with mining(a=pool) as client:
        assert client.submit(1) is NotSent.LOW_DIFFICULTY


async def test_a_share_of_other_work_is_not_ours_to_send(autojump_clock: MockClock) -> None:
    async with (
        mining(a=HonestUpstream()) as client,
        mining(UpstreamSettings(name="south"), a=HonestUpstream()) as other,
    ):
        assert client.upstream.submit(b"1", other.share(1)) is NotSent.OTHER_SOURCE


async def test_a_block_leaves_ahead_of_the_shares_that_wait(autojump_clock: MockClock) -> None:
    """And is sent whatever the upstream's difficulty."""
    pool = HonestUpstream()
    pool.nbits, pool.difficulty = REGTEST_NBITS, 1 << 40
    async with mining(a=pool) as client:
        solutions = [client.share(nonce) for nonce in range(40)]
        target = 0x7FFFFF << 232
        blocks = [s for s in solutions if int.from_bytes(s.hash_internal, "little") <= target]
        assert 0 < len(blocks) < 40
        with structlog.testing.capture_logs() as logs:
            for solution in blocks:
                assert client.send(solution) is None
            await client.owner.wait_for(lambda: len(client.owner.answers) == len(blocks))
        assert {entry["event"] for entry in logs} == {"upstream_block_sent", "upstream_block_resolved"}
        assert logs[0]["block"] == blocks[0].hash_internal[::-1].hex()


# Accounts


async def test_no_credential_is_in_a_log_an_error_or_a_repr(autojump_clock: MockClock) -> None:
    pool = UpstreamThatRefusesTheAccount()
    with structlog.testing.capture_logs() as logs:
        async with mining(a=pool, b=HonestUpstream()) as client:
            message = f"hello {USER}, your password is {PASSWORD}"
            b = client.network.pools["b.pool.example"]
            await b.call.tell("client.show_message", message)
            await b.call.tell("client.reconnect", f"{PASSWORD}.example", 1)
            await trio.sleep(1)
            status = client.upstream.status
            with pytest.raises(UnusableUpstream) as refused:
                await probe_upstream(endpoint("a.pool.example"), SETTINGS, connect=client.network.connect)
    assert status[0].reason == "refuses mining.authorize: no worker *** with password ***"
    assert {"upstream_message", "upstream_reconnect_refused"} <= {entry["event"] for entry in logs}
    for text in (repr(logs), repr(status), str(refused.value), repr(endpoint("h"))):
        assert USER not in text
        assert PASSWORD not in text


# TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, host: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("certified", "pinned", "reason"),
    [
        ("a.pool.example", True, None),
        ("other.example", True, "TLS handshake failed: Hostname mismatch"),
        ("a.pool.example", False, "TLS handshake failed: unable to get local issuer certificate"),
        (None, True, "TLS handshake failed"),
    ],
)
async def test_tls(
    autojump_clock: MockClock,
    authority: trustme.CA,
    tmp_path: object,
    certified: str | None,
    pinned: bool,
    reason: str | None,
) -> None:
    """With the pinned CA; with another host's certificate; with the system's CAs only; against plaintext."""
    ca_file = f"{tmp_path}/ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    place = endpoint("a.pool.example", tls=True, ca_file=ca_file if pinned else None)
    async with trio.open_nursery() as nursery:
        client = UpstreamClient(Network(nursery, {"a.pool.example": HonestUpstream()}), [place], SETTINGS)
        if certified is not None:
            client.network.tls = server_context(authority, certified)
        nursery.start_soon(client.run)
        if reason is None:
            await client.owner.until_up()
            client.submit(1)
            await client.answers(1)
            assert client.owner.verdicts == {b"1": ACCEPTED}
        else:
            await trio.sleep(3)
            assert client.upstream.status[0].reason.startswith(reason)
            assert client.upstream.status[0].state is PlaceState.DOWN
        nursery.cancel_scope.cancel()


async def test_plaintext_on_a_tls_port(autojump_clock: MockClock, authority: trustme.CA) -> None:
    async with mining(a=HonestUpstream(), up=False) as client:
        client.network.tls = server_context(authority, "a.pool.example")
        await trio.sleep(20)
        assert client.upstream.status[0].state is PlaceState.DOWN
        assert "subscribing" in client.upstream.status[0].reason


async def test_settings_that_cannot_be_used_are_refused_at_start(tmp_path: object) -> None:
    def upstream(*endpoints: UpstreamEndpoint) -> None:
        Upstream(
            settings=SETTINGS,
            endpoints=endpoints,
            owner=Owner(),
            rng=random.Random(1),
        )

    with pytest.raises(BadUpstream, match=r"cannot use the CA file .*none.pem: it is no file"):
        upstream(endpoint("a.example", tls=True, ca_file=f"{tmp_path}/none.pem"))
    with pytest.raises(BadUpstream, match="1 to 16 endpoints"):
        upstream()
    with pytest.raises(BadUpstream, match="twice"):
        upstream(endpoint("a.example"), endpoint("a.example"))


def test_who_names_a_ca_file_is_told_nothing_of_the_disk_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Whoever may add an upstream need not be on this host. A pipe would be read for ever."""
    authority = trustme.CA()
    pem, other = tmp_path / "ca.pem", {name: tmp_path / name for name in ("pipe", "empty", "secret", "big")}
    authority.cert_pem.write_to_path(str(pem))
    pem.write_bytes("# Főtanúsítvány\n".encode() + pem.read_bytes())
    assert tls_context(str(pem)).cert_store_stats()["x509_ca"] == 1
    os.mkfifo(other["pipe"])
    other["empty"].write_bytes(b"")
    other["secret"].write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    other["big"].write_bytes(pem.read_bytes() + b"\n" * CA_BYTES_MAX)
    said = set()
    for path in (*other.values(), tmp_path, tmp_path / "none", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(BadUpstream) as refused:
            tls_context(str(path))
        said.add(str(refused.value).replace(str(path), "it"))
        assert refused.value.__cause__ is None
    assert len(said) == 1
