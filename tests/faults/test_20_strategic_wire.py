"""A strategic miner on the wire: through sockets, switchboard and engine it is credited its work."""

import hashlib
import struct
from typing import Any, Final

import pytest
import trio.testing

from stratum.difficulty import DIFF1
from stratum.tallies import Verdict
from tests.stages.sessions import header
from tests.stages.sockets import MemoryJournal, Miner, connect, encode, serving, virtual_clock
from tests.stages.waiting import until

HASHES: Final = 2_000
LEVELS: Final = range(-31, -24)
EXTRANONCE2: Final = bytes(8)

Found = tuple[int, str]  # the hash as a number, and its nonce


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return virtual_clock()


def search(job: list[Any], extranonce1: bytes) -> list[Found]:
    head = header(job, extranonce1 + EXTRANONCE2, int(job[7], 16), 0)
    found = []
    for nonce in range(HASHES):
        raw = hashlib.sha256(hashlib.sha256(head + struct.pack("<I", nonce)).digest()).digest()
        found.append((int.from_bytes(raw, "little"), f"{nonce:08x}"))
    return found


async def sell(miner: Miner, found: list[Found], ids: list[tuple[str, int]], ntime: str) -> list[Found]:
    """Each under the hardest id that it meets, at once; those that were refused."""
    asked = []
    for value, nonce in found:
        job_id = next((it for it, log2 in reversed(ids) if value <= DIFF1 << -log2), ids[0][0])
        asked.append((miner.worker, job_id, EXTRANONCE2.hex(), ntime, nonce))
    lines = [encode(10_000 + at, "mining.submit", *share) for at, share in enumerate(asked)]
    refused = []
    for at in range(0, len(lines), 100):
        await miner.say(b"".join(lines[at : at + 100]))
        for number in range(at, min(at + 100, len(lines))):
            if (await miner.answer(10_000 + number))["result"] is not True:
                refused.append(found[number])
    return refused


async def told(miner: Miner, log2: int) -> str:
    """Ask for at least this difficulty; the job that it comes with."""
    await miner.call("mining.configure", ["minimum-difficulty"], {"minimum-difficulty.value": 2.0**log2})
    while round(2**32 * miner.heard("mining.set_difficulty")[-1][0]) != 1 << 32 + log2:
        await miner.notified("mining.set_difficulty")
    return str((await miner.notified("mining.notify"))[0])


async def test_who_hashes_first_and_chooses_then_is_credited_his_work(clock: trio.testing.MockClock) -> None:
    """Half of the hashes are sold under seven harder ids, the others after coming back for more."""
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        miner = await connect(server.port)
        subscribed = (await miner.call("mining.subscribe", "x"))["result"]
        session_id = subscribed[1]
        await miner.call("mining.authorize", miner.worker, "x")
        if not miner.heard("mining.notify"):
            await miner.notified("mining.notify")
        job = miner.job
        found = search(job, bytes.fromhex(session_id))
        ids = [(job[0], -32)]
        for log2 in LEVELS:
            ids.append((await told(miner, log2), log2))
        refused = await sell(miner, found[::2], ids, job[7])
        await sell(miner, refused, ids[:1], job[7])
        await miner.close()
        await until(lambda: not server.board.connections)

        back = await connect(server.port)
        assert (await back.call("mining.subscribe", "x", session_id))["result"][1] == session_id
        await back.call("mining.authorize", back.worker, f"md={2.0 ** LEVELS[-1]}")
        refused = await sell(back, [one for one in found[1::2] if one[0] <= DIFF1 << 25], ids[:1], job[7])
        await sell(back, [one for one in found[1::2] if one[0] > DIFF1 << 25] + refused, ids[:1], job[7])
        await back.close()
        await until(lambda: not server.board.connections)
    credited = sum(
        tally.count << 32 + tally.difficulty_log2
        for commit in journal.commits
        for tally in commit
        if tally.verdict is Verdict.ACCEPTED
    )
    # What is sent under an id of other work is another header, and a hash of its own.
    work, chance = HASHES + HASHES // 2, 400
    print(f"{work} hashes were credited as {credited}")
    assert 0.99 * HASHES <= credited <= work + chance
