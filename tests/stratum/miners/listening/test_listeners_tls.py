"""TLS listeners: miners over TLS, what can go wrong with it, and a certificate renewed in service."""

import gc
import os
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

import stratum.miners.listening.tls_connection
from stratum.miners.listening.certificate import BadCertificate
from stratum.miners.listening.listeners import Endpoint
from stratum.miners.listening.tls_connection import Handshake
from stratum.miners.liveness import SessionLimits
from stratum.miners.switchboard import BoardLimits
from stratum.miners.turns.connection_limits import MADE_ROOM, ConnectionBounds, Place, Standing
from stratum.miners.turns.turns import Waiting
from stratum.tallies import Verdict
from tests.stages.sockets import (
    LOOPBACK,
    JournalThatIsSlow,
    LoopbackServer,
    MemoryJournal,
    Miner,
    accepted,
    all_of,
    connect,
    connect_tls,
    encode,
    make_work,
    serving,
    virtual_clock,
)
from tests.stages.waiting import until


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return virtual_clock()


class Shop:
    """A certificate on disk, the authority that signed it, and miners that trust the authority."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authority = trustme.CA()
        self.trust = ssl.create_default_context()
        self.authority.configure_trust(self.trust)
        self.issue()

    def issue(self, *, days: int = 90) -> None:
        """A new certificate in place of the old one."""
        until = datetime.now(UTC) + timedelta(days=days)
        draft = self.path.with_suffix(".new")
        issued = self.authority.issue_cert("pool.test", not_after=until)
        issued.private_key_and_cert_chain_pem.write_to_path(str(draft))
        os.replace(draft, self.path)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(host="127.0.0.1", port=0, certificate=str(self.path))

    async def connect(self, server: LoopbackServer, worker: str = "acme.c01.tls", **options: Any) -> Miner:
        miner = await connect_tls(server.port, self.trust, worker, **options)
        server.miners.append(miner)
        return miner

    async def mining(self, server: LoopbackServer, worker: str = "acme.c01.tls") -> Miner:
        return await (await self.connect(server, worker)).start()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "pool.pem")


@asynccontextmanager
async def both(shop: Shop, **options: Any) -> AsyncIterator[tuple[LoopbackServer, Miner]]:
    """A site with a TLS and a plain port, and a good miner on the plain one that must not notice anything."""
    async with serving(endpoints=(shop.endpoint, LOOPBACK), **options) as server:
        good = await (await connect(server.listeners.addresses[1][1], "acme.c01.good")).start()
        server.miners.append(good)
        yield server, good
        assert accepted(await good.mine())


# Mining over TLS


async def test_shares_over_tls_are_accepted_and_jobs_arrive(shop: Shop) -> None:
    journal = MemoryJournal()
    async with serving(endpoints=(shop.endpoint,), journal=journal) as server:
        miner = await shop.mining(server)
        assert accepted(await miner.mine())
        server.publish(make_work(2))
        assert (await miner.notified("mining.notify"))[8] is True
        assert accepted(await miner.mine())
        assert journal.counted() == 2


async def test_reply_over_tls_waits_for_the_commit_too(shop: Shop) -> None:
    journal = JournalThatIsSlow()
    async with serving(endpoints=(shop.endpoint,), journal=journal) as server:
        miner = await shop.mining(server)
        share = await miner.submit()
        await until(lambda: journal.started == 1)
        assert await miner.hears_nothing()
        journal.may_pass.release()
        assert accepted(await miner.answer(share))


async def test_everything_in_one_record_and_a_byte_a_record(shop: Shop) -> None:
    async with both(shop) as (server, _):
        hello = encode(101, "mining.subscribe", "x") + encode(102, "mining.authorize", "acme.c01.tls", "x")
        hasty, slow = await shop.connect(server), await shop.connect(server)
        await hasty.say(hello)
        for byte in hello:
            await slow.say(bytes([byte]))
        for miner in (hasty, slow):
            await miner.answer(101)
            await miner.answer(102)
            await miner.notified("mining.notify")
            assert accepted(await miner.mine())


async def test_last_words_arrive(shop: Shop) -> None:
    limits = SessionLimits(refusals_max=2)
    async with both(shop, session_limits=limits) as (server, _):
        miner = await shop.connect(server)
        await miner.say(encode(1, "mining.authorize", "stranger") + encode(2, "mining.authorize", "stranger"))
        assert (await miner.answer(1))["error"][0] == 24
        assert (await miner.answer(2))["error"][0] == 24
        assert await miner.line() == b""
        assert server.board.dropped["refused too often"] == 1


async def test_shares_sent_just_before_leaving_are_counted(shop: Shop) -> None:
    journal = MemoryJournal()
    async with both(shop, journal=journal) as (server, _):
        miner = await shop.mining(server)
        await miner.submit()
        await miner.close()
        await until(lambda: journal.counted() == 1)
        await until(lambda: server.connection_limits.sessions == 1)


# Miners over TLS that do not behave


async def test_reset_over_tls_ends_one_connection(shop: Shop) -> None:
    async with both(shop) as (server, good):
        for _ in range(5):
            miner = await shop.mining(server)
            await miner.say(b'{"id":1,"method":"mining.sub')
            miner.reset()
            assert accepted(await good.mine())
        await until(lambda: server.connection_limits.sessions == 1)


async def test_reset_while_we_are_sending_ends_one_connection(shop: Shop) -> None:
    async with both(shop) as (server, good):
        miners = [await shop.mining(server, f"acme.c01.u{n}") for n in range(5)]
        for miner in miners[::2]:
            miner.reset()
        server.publish(make_work(2))
        for miner in (*miners[1::2], good):
            assert (await miner.notified("mining.notify"))[8] is True
            assert accepted(await miner.mine())
        await until(lambda: server.connection_limits.sessions == 3)


async def test_broken_record_ends_one_connection(shop: Shop) -> None:
    async with both(shop) as (server, _):
        miner = await shop.mining(server)
        assert isinstance(miner.stream, trio.SSLStream)
        await miner.stream.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await miner.line() == b""
        await until(lambda: server.connection_limits.sessions == 1)


async def test_miner_that_never_reads_is_dropped_at_the_bound(shop: Shop) -> None:
    async with both(shop) as (server, good):
        deaf = await shop.mining(server)
        nonce = 0
        while not server.board.dropped["does not read"]:
            assert nonce < 200_000
            lines = [encode(n, "mining.submit", *deaf.share(n)) for n in range(nonce, nonce + 200)]
            nonce += 200
            try:
                await deaf.stream.send_all(b"".join(lines))
            except trio.BrokenResourceError:
                break
            assert accepted(await good.mine())
        await until(lambda: server.connection_limits.sessions == 1)
        assert server.board.dropped["does not read"] == 1


async def test_job_larger_than_the_bound_is_sent_to_who_reads(shop: Shop) -> None:
    async with both(shop, board_limits=BoardLimits(out_bytes_max=300)) as (server, _):
        assert accepted(await (await shop.mining(server)).mine())


async def test_tls_miners_wait_as_well_while_too_much_waits_for_a_commit(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratum.miners.group_commit.UNCOMMITTED_BYTES_MAX", 2_000)
    journal = JournalThatIsSlow()
    async with serving(endpoints=(shop.endpoint,), journal=journal) as server:
        miner = await shop.mining(server)
        share = await miner.submit()
        await until(lambda: journal.started == 1)
        await miner.say(b"".join(encode(1000 + n, "mining.submit", *miner.share(n)) for n in range(400)))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert server.engine.totals()[Verdict.ACCEPTED] < 400
        for _ in range(400):
            journal.may_pass.release()
        assert accepted(await miner.answer(share))
        for n in range(400):
            assert accepted(await miner.answer(1000 + n))


# Handshakes


async def test_plaintext_on_the_tls_port_is_turned_away(shop: Shop) -> None:
    async with both(shop) as (server, _):
        confused = await server.connect(head=encode(1, "mining.subscribe", "x"))
        while await confused.line():
            pass
        await until(lambda: server.connection_limits.sessions == 1)
        assert server.board.dropped["TLS handshake failed"] == 1


async def test_tls_on_the_plaintext_port_is_turned_away(clock: trio.testing.MockClock, shop: Shop) -> None:
    async with both(shop) as (server, _):
        with pytest.raises((trio.BrokenResourceError, trio.TooSlowError)):
            await connect_tls(server.listeners.addresses[1][1], shop.trust)
        await trio.sleep(1)
        assert server.connection_limits.sessions == 1


async def test_handshake_that_never_ends_counts_as_unfinished_and_times_out(
    clock: trio.testing.MockClock, shop: Shop
) -> None:
    limits = ConnectionBounds(half_open_per_address_max=2)
    async with serving(endpoints=(shop.endpoint,), connection_bounds=limits) as server:
        waiting = [await server.connect(head=head) for head in (b"", b"\x16\x03\x01\x02\x00")]
        third = await server.connect()
        assert await waiting[0].line() == b"", "the oldest one makes room"
        await trio.sleep(stratum.miners.listening.tls_connection.TLS_HANDSHAKE_S + 1)
        for miner in (*waiting, third):
            assert await miner.line() == b""
        assert server.board.dropped == {MADE_ROOM: 1, "TLS handshake failed": 2}
        assert accepted(await (await shop.mining(server)).mine())


async def test_handshake_that_waits_for_its_turns_does_not_run_out_of_time_by_that(
    clock: trio.testing.MockClock, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd of strangers at the door makes every newcomer slow, and keeps none out."""
    async with trio.open_nursery() as nursery, serving(endpoints=(shop.endpoint,)) as server:
        give, waited = server.board.lanes.add, []

        async def give_late(place: Place, waiting: Waiting) -> None:
            await trio.sleep(stratum.miners.listening.tls_connection.TLS_HANDSHAKE_S + 1)
            give(place, waiting)

        def wait_long(place: Place, waiting: Waiting, *, dear: bool = False) -> None:
            assert not dear
            if isinstance(waiting, Handshake):
                waited.append(waiting)
                nursery.start_soon(give_late, place, waiting)
            else:
                give(place, waiting)

        monkeypatch.setattr(server.board.lanes, "add", wait_long)
        assert accepted(await (await shop.mining(server)).mine())
        assert len(waited) > 1


async def test_handshake_without_a_word_of_stratum_is_dropped(
    clock: trio.testing.MockClock, shop: Shop
) -> None:
    async with serving(endpoints=(shop.endpoint,)) as server:
        silent = await shop.connect(server)
        await trio.sleep(16)
        assert server.board.dropped["no subscribe"] == 1
        assert await silent.line() == b""


async def test_storm_of_aborted_handshakes_disturbs_nobody(shop: Shop) -> None:
    async with both(shop) as (server, good):

        async def abort(at: int) -> None:
            hello = ssl.MemoryBIO()
            client = shop.trust.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="pool.test")
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            miner = await server.connect(head=hello.read()[: 1 + at])
            await trio.testing.wait_all_tasks_blocked()
            miner.reset()

        await all_of([partial(abort, 40 * at) for at in range(20)])
        assert accepted(await good.mine())
        assert accepted(await (await shop.mining(server)).mine())
        await until(lambda: server.connection_limits.sessions == 2)


async def test_miner_that_shakes_hands_while_the_door_is_being_closed_is_let_go(shop: Shop) -> None:
    async with serving(endpoints=(shop.endpoint,)) as server:
        early = await server.connect()
        await until(lambda: server.connection_limits._crowds[Standing.HALF_OPEN].size == 1)
        server.board.close_door("no bitcoin node answers")
        stream = trio.SSLStream(early.stream, shop.trust, server_hostname="pool.test", https_compatible=True)
        await stream.do_handshake()
        assert await Miner(stream, early.worker).line() == b""
        assert server.connection_limits.sessions == 0
        assert server.board.dropped == {"no bitcoin node answers": 1}


async def test_tls_behind_a_balancer(shop: Shop) -> None:
    endpoint = Endpoint(
        host="127.0.0.1", port=0, certificate=str(shop.path), proxies=(ip_network("127.0.0.1"),)
    )
    async with serving(endpoints=(endpoint,)) as server:
        miner = await shop.connect(server, head=b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 3333\r\n")
        assert accepted(await (await miner.start()).mine())
        assert [connection.address for connection in server.board.connections] == ["192.0.2.7"]


# Certificates


def shown(miner: Miner) -> object:
    """The serial number of the certificate that the miner was shown."""
    assert isinstance(miner.stream, trio.SSLStream)
    return miner.stream.getpeercert()["serialNumber"]


async def test_certificate_is_renewed_without_a_restart(shop: Shop) -> None:
    async with serving(endpoints=(shop.endpoint,)) as server:
        before = await shop.mining(server)
        shop.issue()
        after = await shop.mining(server)
        assert shown(after) != shown(before)
        assert accepted(await after.mine())
        assert accepted(await before.mine()), "who is connected stays connected"


async def test_bad_new_certificate_leaves_the_old_one_in_force(shop: Shop) -> None:
    async with serving(endpoints=(shop.endpoint,)) as server:
        before = await shop.mining(server)
        shop.path.write_text("not a certificate")
        after = await shop.mining(server)
        assert shown(after) == shown(before)
        assert accepted(await after.mine())


async def test_expired_certificate_is_refused_by_miners_that_look_and_no_others(shop: Shop) -> None:
    shop.issue(days=-1)
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    async with both(shop) as (server, _):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await shop.connect(server)
        assert "certificate has expired" in str(caught.value.__cause__)
        miner = await connect_tls(server.port, careless)
        server.miners.append(miner)
        assert accepted(await (await miner.start()).mine())


async def test_certificate_that_cannot_be_used_does_not_start(shop: Shop) -> None:
    shop.path.write_text("not a certificate")
    server = LoopbackServer(endpoints=(LOOPBACK, shop.endpoint))
    with pytest.raises(BadCertificate, match=r"pool\.pem"):
        await server.listeners.run()
    server.board.poller.close()


# The end


async def test_stop_ends_tls_connections_and_handshakes_too(shop: Shop) -> None:
    gc.collect()  # what other tests have left open is closed here, and not in the middle
    before = set(os.listdir("/dev/fd"))
    async with serving(endpoints=(shop.endpoint,)) as server:
        miners = [await shop.mining(server, f"acme.c01.u{n}") for n in range(3)]
        unfinished = await server.connect(head=struct.pack("!BHH", 22, 0x0301, 512))
        await trio.testing.wait_all_tasks_blocked()
        server.miners.clear()
    for miner in (*miners, unfinished):
        while await miner.line():
            pass
        await miner.close()
    assert server.connection_limits.sessions == 0
    assert not server.board.connections
    assert set(os.listdir("/dev/fd")) == before


async def test_a_first_turn_that_comes_when_nobody_listens_any_more_ends_that_connection_alone(
    shop: Shop,
) -> None:
    """All are stopped at once, and who gives turns may be the last."""
    server = LoopbackServer(endpoints=(shop.endpoint,))
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as listening:
            await listening.start(server.listeners.run)
            late = await server.connect()
            await until(lambda: server.connection_limits.sessions == 1)
            listening.cancel_scope.cancel()
        await nursery.start(server.board.run)
        assert await late.line() == b""
        assert server.board.dropped == {"connection lost": 1}
        assert server.connection_limits.sessions == 0
        nursery.cancel_scope.cancel()
    await late.close()
