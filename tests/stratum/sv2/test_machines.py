"""Machines of Stratum V2 at a pool, on sockets: what they are given, and what becomes of their shares."""

import struct
import time
from typing import Any

import pytest

from stratum.difficulty import target_from_difficulty_log2
from stratum.job import Job
from stratum.miners.channel import Channel
from stratum.miners.contracts import Refusal
from stratum.miners.liveness import SessionLimits
from stratum.miners.turns.connection_limits import ConnectionBounds, Standing
from stratum.sv2.authority import Credentials
from stratum.sv2.language import ChannelLanguage
from stratum.sv2.noise import NoiseServer
from stratum.sv2.secp256k1 import key_pair
from stratum.tallies import Verdict
from tests.stages.sockets import (
    ALWAYS_A_BLOCK,
    NTIME,
    accepted,
    is_readable,
    make_work,
)
from tests.stages.sv2_machine import WrongPool, connect_sv2
from tests.stages.sv2_pool import playing
from tests.stages.waiting import until

EASIEST = target_from_difficulty_log2(-32)


@pytest.mark.parametrize("least", [None, 0, 8])
async def test_a_channel_opens_has_work_and_its_shares_are_counted(least: int | None) -> None:
    async with playing() as pool:
        machine = await pool.machine()
        channel = await machine.open(least=least)
        assert channel.size == (0 if least is None else 8)
        assert len(channel.prefix) + channel.size == 12, "the room of the coinbase"
        assert channel.target == EASIEST
        for count in (1, 2, 3):
            said = await machine.mine(channel)
            assert said == {"channel": channel.number, "last": count, "count": 1, "sum": 0}
        assert pool.journal.counted() == 3


async def test_machines_of_both_protocols_mine_for_one_tenant_in_one_journal() -> None:
    async with playing() as pool:
        line = await pool.server.mining("acme.c01.u1")
        machine = await pool.machine()
        standard = await machine.open("acme.c01.u2")
        extended = await machine.open("acme.c01.u1", least=4)
        assert accepted(await line.mine())
        await machine.mine(standard)
        await machine.mine(extended)
        prefixes = {line.extranonce1, standard.prefix[:4], extended.prefix[:4]}
        assert len(prefixes) == 3, "nobody searches what another one does"
        workers = [(it.worker, it.count) for commit in pool.journal.commits for it in commit]
        assert sum(count for _, count in workers) == 3
        assert {worker for worker, _ in workers} == {1, 2}, "one name is one worker, in either protocol"


@pytest.mark.parametrize("least", [None, 4])
async def test_a_new_block_and_other_work_on_it(least: int | None) -> None:
    async with playing() as pool:
        machine = await pool.machine()
        channel = await machine.open(least=least)
        late, _ = channel.share()
        pool.server.publish(make_work(2))
        begun = await machine.until("SetNewPrevHash")
        assert channel.prevhash == make_work(2).prevhash_internal
        await machine.submit(channel, late)
        assert (await machine.until("SubmitShares.Error"))["code"] == "stale-share"
        assert (await machine.mine(channel))["count"] == 1

        pool.server.publish(make_work(2, refresh=1))
        refreshed = await machine.until("NewMiningJob", "NewExtendedMiningJob")
        assert refreshed["ntime"] is not None, "searched at once"
        assert refreshed["job"] != begun["job"]
        earlier = channel.jobs[begun["job"]]
        assert (await machine.mine(channel, job=earlier))["count"] == 1, "and the one before still counts"
        assert (await machine.mine(channel))["count"] == 1


async def test_who_speaks_v1_hears_of_a_block_before_a_job_is_made_and_encrypted_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That takes 60 us a machine: a third of a second for five thousand, in which others mined the old."""
    encrypt, encrypted = NoiseServer.encrypt, list[bytes]()
    job_for, was_told = ChannelLanguage.job, list[bool]()

    def noting(noise: NoiseServer, frames: bytes) -> bytes:
        encrypted.append(frames)
        return encrypt(noise, frames)

    def making(language: ChannelLanguage, channel: Channel, job: Job, notify_line: bytes | None) -> bytes:
        was_told.append(is_readable(line.socket))
        return job_for(language, channel, job, notify_line)

    async with playing() as pool:
        machine = await pool.machine()
        channel = await machine.open()
        line = await pool.server.mining("acme.c01.u2")
        monkeypatch.setattr(NoiseServer, "encrypt", noting)
        monkeypatch.setattr(ChannelLanguage, "job", making)
        pool.server.publish(make_work(2))
        assert was_told == [True]
        assert not encrypted
        await machine.until("SetNewPrevHash")
        assert len(encrypted) == 1
        assert (await machine.mine(channel))["count"] == 1


async def test_every_error_has_its_code() -> None:
    async with playing() as pool:
        machine = await pool.machine()
        channel = await machine.open(least=8)
        share, _ = channel.share()
        await machine.submit(channel, share)
        await machine.until("SubmitShares.Success")

        async def code(**changes: Any) -> str:
            await machine.submit(channel, channel.share()[0] | changes)
            return str((await machine.until("SubmitShares.Error"))["code"])

        assert await code(**{it: share[it] for it in ("nonce", "extranonce")}) == "duplicate-share"
        assert await code(job=share["job"] + 1) == "invalid-job-id"
        assert await code(ntime=NTIME - 601) == "invalid-timestamp"
        assert await code(version=share["version"] ^ 0x40000000) == "invalid-version"
        assert await code(extranonce=b"\x01" * 7) == "invalid-extranonce-size"
        await machine.submit(channel, share, number=99)
        assert (await machine.until("SubmitShares.Error"))["code"] == "invalid-channel-id"
        rejected = [pool.journal.counted(it) for it in Verdict if it is not Verdict.ACCEPTED]
        assert sum(rejected) == 5, "charged to who had an accepted share"


async def test_a_share_below_its_target_is_told_so() -> None:
    async with playing() as pool:
        machine = await pool.machine()
        channel = await machine.open(max_target=target_from_difficulty_log2(20))
        assert channel.target == target_from_difficulty_log2(20)
        said = await machine.mine(channel)
        assert said["code"] == "difficulty-too-low"


@pytest.mark.parametrize("roll", [0x1FFFE000, 0x20, 0x1FFFFFE0, 0x4000])
async def test_the_version_that_was_hashed_is_the_one_that_is_judged(roll: int) -> None:
    async with playing(make_work(network_target=ALWAYS_A_BLOCK)) as pool:
        pool.server.channel.version_mask = 0x1FFFFFE0
        machine = await pool.machine()
        for least in (None, 4):
            channel = await machine.open(f"acme.c01.u{least}", least=least)
            share, share_hash = channel.share(roll=roll)
            await machine.submit(channel, share)
            assert (await machine.until("SubmitShares.Success", "SubmitShares.Error")).get("count") == 1
            (found,) = pool.server.solutions[-1:]
            assert found.version == share["version"]
            assert int.from_bytes(found.hash_internal, "little") == share_hash


async def test_good_shares_of_one_packet_are_answered_together() -> None:
    async with playing() as pool:
        machine = await pool.machine()
        channel = await machine.open()
        shares = [channel.share()[0] for _ in range(20)]
        fields = ("sequence", "job", "nonce", "ntime", "version")
        packet = b"".join(
            machine.frame(0x1A, struct.pack("<6I", channel.number, *(it[field] for field in fields)), 0x8000)
            for it in shares
        )
        await machine.raw(packet)
        counted = 0
        answers = 0
        while counted < 20:
            said = await machine.until("SubmitShares.Success")
            counted, answers = counted + said["count"], answers + 1
        assert said["last"] == shares[-1]["sequence"]
        assert answers < 5


async def test_the_workers_of_a_proxy_are_counted_apart() -> None:
    async with playing() as pool:
        machine = await pool.machine()
        assert (await machine.extend(2, 77))["list"] == [2]
        channel = await machine.open("acme.c01.proxy", least=4)
        for worker in ("u7", "u8", "u7", "acme.c02.u1"):
            assert (await machine.mine(channel, worker=worker))["count"] == 1
        assert set(pool.server.admission.numbers) == {
            "acme.c01.proxy",
            "acme.c01.u7",
            "acme.c01.u8",
            "acme.c02.u1",
        }
        assert (await machine.mine(channel, worker="other.c02.u1"))["code"] == "unknown-user"
        counted = {it.worker: 0 for commit in pool.journal.commits for it in commit}
        for commit in pool.journal.commits:
            for it in commit:
                counted[it.worker] += it.count
        numbers = pool.server.admission.numbers
        assert counted[numbers["acme.c01.u7"]] == 2
        assert numbers["acme.c01.proxy"] not in counted


async def test_a_worker_that_came_while_no_node_answered_mines_when_one_does() -> None:
    """Its channel mines on for an upstream. Who was refused then was for as long as the channel was there."""
    async with playing() as pool:
        machine, admission = await pool.machine(), pool.server.admission
        await machine.extend(2)
        channel = await machine.open("acme.c01.proxy", least=4)
        admission.refusal = Refusal("no bitcoin node answers", passes=True)
        for _ in range(2):
            assert (await machine.mine(channel, worker="u7"))["code"] == "unknown-user"
        admission.refusal = None
        for worker in ("u7", "u8"):
            assert (await machine.mine(channel, worker=worker))["count"] == 1
        admission.refusal = Refusal("no bitcoin node answers", passes=True)
        assert (await machine.mine(channel, worker="u7"))["count"] == 1, "who was let in stays"


async def test_without_the_extension_a_name_in_a_share_is_passed_over() -> None:
    async with playing() as pool:
        machine = await pool.machine()
        channel = await machine.open("acme.c01.proxy", least=4)
        assert (await machine.mine(channel, worker="u7"))["count"] == 1
        assert set(pool.server.admission.numbers) == {"acme.c01.proxy"}


@pytest.mark.parametrize("least", [None, 4])
async def test_a_channel_moves_with_other_extranonces_where_it_is(least: int | None) -> None:
    async with playing() as pool:
        other = pool.server.add_channel(2)
        pool.server.publish(make_work(7), other)
        machine = await pool.machine()
        channel = await machine.open(least=least)
        late, _ = channel.share()
        (session,) = pool.server.channel.sessions
        pool.server.board.distribution.move(session, other)
        await machine.until("SetNewPrevHash")
        assert ("SetExtranoncePrefix", {"channel": 1, "prefix": channel.prefix}) in machine.heard
        assert channel.prevhash == make_work(7).prevhash_internal
        assert (await machine.mine(channel))["count"] == 1
        await machine.submit(channel, late)
        assert (await machine.until("SubmitShares.Success"))["count"] == 1, "of where it was"
        rates = [it.rate for commit in pool.journal.commits for it in commit]
        assert sorted(rates) == [1, 2]


async def test_who_was_promised_more_room_than_there_is_comes_again() -> None:
    async with playing() as pool:
        other = pool.server.add_channel(2, extranonce2_bytes=4)
        pool.server.publish(make_work(7), other)
        machine = await pool.machine()
        standard, extended = await machine.open("acme.c01.u1"), await machine.open("acme.c01.u2", least=4)
        for session in list(pool.server.channel.sessions):
            pool.server.board.distribution.move(session, other)
        while not (extended.closed and standard.prevhash == make_work(7).prevhash_internal):
            await machine.hear()
        assert len(standard.prefix) == 8
        pool.server.admission.channels["acme.c01.u2"] = other
        again = await machine.open("acme.c01.u2", least=4)
        assert again.size == 4
        assert (await machine.mine(again))["count"] == 1


async def test_vardiff_sets_the_target_with_the_next_work() -> None:
    async with playing(aim_s=6.0) as pool:
        machine = await pool.machine()
        channel = await machine.open(hashrate=1e12)
        assert channel.target == target_from_difficulty_log2(10), "1 TH/s finds 2^10.4 every 6 s"
        easy = await machine.open("acme.c01.u2")
        for _ in range(40):
            await machine.submit(easy, easy.share()[0])
        while easy.target == EASIEST:
            await machine.hear()
        name, said = await machine.hear()
        assert (name, said["channel"]) == ("NewMiningJob", easy.number), "with other work"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"name": "other.c01.u1"}, "unknown-user: Unknown tenant"),
        ({"name": ""}, "unknown-user: A worker name has 1 to 127 bytes"),
        ({"name": "acme.c01.u1", "least": 9}, "min-extranonce-size-too-large"),
        ({"name": "acme.c01.u1", "max_target": 0}, "max-target-out-of-range"),
        ({"name": "acme.c01.u1", "max_target": 1}, "max-target-out-of-range"),
    ],
)
async def test_what_cannot_be_opened_is_refused_and_the_connection_stays(
    options: dict[str, Any], code: str
) -> None:
    async with playing() as pool:
        machine = await pool.machine()
        await machine.ask_to_open(**options)
        assert (await machine.until("OpenMiningChannel.Error"))["code"] == code
        assert (await machine.mine(await machine.open()))["count"] == 1
        assert pool.server.connection_limits.sessions == 1


@pytest.mark.parametrize(
    ("setup", "error"),
    [
        ({"protocol": 1}, {"flags": 0, "code": "unsupported-protocol"}),
        ({"low": 3, "high": 4}, {"flags": 0, "code": "protocol-version-mismatch"}),
        ({"flags": 0b111}, {"flags": 0b010, "code": "unsupported-feature-flags"}),
    ],
)
async def test_what_cannot_be_agreed_on_is_refused_in_words(
    setup: dict[str, int], error: dict[str, Any]
) -> None:
    async with playing() as pool:
        machine = await pool.machine(setup=False)
        assert await machine.setup(**setup) == error
        with pytest.raises(EOFError):
            await machine.hear()


async def test_a_machine_knows_its_pool() -> None:
    async with playing() as pool:
        stranger = Credentials(key_pair(), validity_s=86_400).public
        with pytest.raises(WrongPool, match="authority"):
            await connect_sv2(pool.port, stranger, int(time.time()))
        with pytest.raises(WrongPool, match="not of now"):
            await connect_sv2(pool.port, pool.credentials.public, int(time.time()) + 86_401)


async def test_places_are_the_channels_and_are_given_back() -> None:
    async with playing(session_limits=SessionLimits()) as pool:
        limits = pool.server.connection_limits
        machine = await pool.machine()
        assert limits.standing()[Standing.HALF_OPEN] == 1
        first = await machine.open("acme.c01.u1")
        second = await machine.open("acme.c01.u2")
        assert limits.sessions == 2
        await machine.say(0x18, first.number.to_bytes(4, "little") + b"\x00", 0x8000)
        await machine.mine(second)
        assert limits.sessions == 1
        await machine.close()
        await until(lambda: limits.sessions == 0)
        assert not pool.server.board.connections


async def test_who_has_no_room_for_a_channel_is_told_so() -> None:
    async with playing(connection_bounds=ConnectionBounds(sessions_per_address_max=2)) as pool:
        machine = await pool.machine()
        await machine.open("acme.c01.u1")
        await machine.open("acme.c01.u2")
        await machine.ask_to_open("acme.c01.u3")
        said = await machine.until("OpenMiningChannel.Error")
        assert said["code"] == "refused: too many connections from this address"
