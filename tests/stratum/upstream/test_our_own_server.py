"""Our own server as the upstream, over real sockets: the two halves of the protocol against each other."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from stratum.job import Solution
from stratum.upstream.client import Upstream
from stratum.upstream.endpoint import UpstreamEndpoint
from stratum.upstream.shares import RejectReason, SubmitVerdict
from tests.stages.sockets import LoopbackServer, MemoryJournal, make_work, serving
from tests.stages.upstream_clients import ACCEPTED, SETTINGS, Owner, solution_of


def share_on(owner: Owner, nonce: int) -> Solution:
    assert owner.split is not None
    return solution_of(owner.works[-1], owner.split, nonce=nonce, rolled=0x2000 * (nonce % 7))


@asynccontextmanager
async def proxying(pool: LoopbackServer) -> AsyncIterator[tuple[Upstream, Owner]]:
    """An upstream that is the pool, held up while the block runs; every share is resolved at its end."""
    owner = Owner(patience_s=20.0)
    upstream = Upstream(
        settings=SETTINGS,
        endpoints=[UpstreamEndpoint(host="127.0.0.1", port=pool.port, user="acme.proxy")],
        owner=owner,
        rng=random.Random(1),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upstream.run)
        await owner.until_up()
        yield upstream, owner
        nursery.cancel_scope.cancel()
    assert not upstream.unanswered


async def test_shares_are_counted_alike_on_both_sides() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as pool, proxying(pool) as (upstream, owner):
        assert owner.all("mask") == [0x1FFFE000]
        for nonce in range(1, 201):
            assert upstream.submit(b"%d" % nonce, share_on(owner, nonce)) is None
        await owner.wait_for(lambda: len(owner.answers) == 200)
        assert set(owner.verdicts.values()) == {ACCEPTED}
        assert journal.counted() == 200


async def test_a_connection_that_was_lost_is_resumed() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as pool, proxying(pool) as (upstream, owner):
        late = share_on(owner, 1)
        for connection in list(pool.board.connections):
            pool.board.drop(connection, "test")
        await owner.until_up(2)
        first, second = owner.all("extranonce")
        assert first == second
        for key, solution in ((b"late", late), (b"again", late), (b"new", share_on(owner, 2))):
            assert upstream.submit(key, solution) is None
        await owner.wait_for(lambda: len(owner.answers) == 3)
        assert owner.verdicts == {
            b"late": ACCEPTED,
            b"again": (SubmitVerdict.REJECTED, RejectReason.DUPLICATE),
            b"new": ACCEPTED,
        }
        assert journal.counted() == 2


async def test_a_share_on_the_block_before_is_stale() -> None:
    async with serving() as pool, proxying(pool) as (upstream, owner):
        old = share_on(owner, 1)
        pool.publish(make_work(2))
        await owner.wait_for(lambda: owner.works[-1].prevhash_internal != old.job.work.prevhash_internal)
        assert owner.all("work") == [True, True]
        assert upstream.submit(b"stale", old) is None
        await owner.wait_for(lambda: len(owner.answers) == 1)
        assert owner.verdicts == {b"stale": (SubmitVerdict.REJECTED, RejectReason.STALE)}
