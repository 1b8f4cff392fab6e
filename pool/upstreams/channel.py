"""A channel whose work comes from an upstream: its jobs in, its shares out.

One connection to the upstream (stratum.upstream) and the channel that its work is published on. An upstream
that shares out its extranonces in another way gets another channel; `placement` moves the sessions.

What a share is worth is never taken from the upstream, which may be the buyer's own: its epoch has the price
of our node's chain. Our miners' difficulties stay below the upstream's, down to our own least.

Invariants: while no upstream serves nothing is published, and good
shares of what was published before count as undelivered; each share that is forwarded is in the book first.
Must not know: tenants, orders, who mines here and why.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import structlog
import trio

from pool.books.journal.forwarded_shares import Forwarded, ForwardedShares
from pool.books.journal.rate_epochs import WorkPrice
from pool.chain.blocks import log_found
from pool.upstreams.past_tips import PastTips
from pool.upstreams.prefix_spaces import PrefixSpaces
from pool.upstreams.rows import UpstreamRecord
from pool.upstreams.status import EndpointStatus, UpstreamStatus
from stratum.difficulty import difficulty_of_target, floor_log2
from stratum.job import Solution, Work
from stratum.miners.channel import Channel, WorkSource
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.switchboard import Switchboard
from stratum.miners.vardiff import VardiffPolicy
from stratum.paced import Paced
from stratum.upstream.client import Upstream
from stratum.upstream.connection import Connect
from stratum.upstream.endpoint import BadUpstream, UpstreamEndpoint
from stratum.upstream.extranonce_split import PREFIX_BYTES_MAX, ExtranonceNeed, ExtranonceSplit
from stratum.upstream.failover import UpstreamSettings
from stratum.upstream.shares import NotSent, SubmitAnswer, UpstreamJob

log = structlog.get_logger()

# A channel that was replaced: its miners are on the other one within seconds, and shares on the way are in.
LINGER_S: Final = 60.0
STEADY_S: Final = 10.0
PRICE_CHECK_S: Final = 0.1
ANSWERS_S: Final = 1.0  # before we leave, for shares under way; a stop takes two seconds at most
# An upstream that sends jobs without end must neither take our time nor push out jobs that are mined on.
CLEAN_GAP_S: Final = 0.1
REFRESH_GAP_S: Final = 1.0
# Telling a site of another mask takes some 15 ms; an upstream that changes it without end is heard so often.
MASK_GAP_S: Final = 1.0
# An upstream that sends no other job must not keep an old price in force: it may belong to who is paid by it.
REPRICE_S: Final = 30.0


class ChannelServices(msgspec.Struct, frozen=True, kw_only=True):
    """What every upstream channel of a pool is given.

    `new_channel` takes a work source, the sizes of prefix and miner's extranonce2, and a space of prefixes to
    share; `finder` says whose a worker number is;
    `price` is our own chain's, None before it is known; `epoch` gives its number; `on_event` is told
    what reports tell: event, words, sessions; `on_change` is called when there is work again, and when
    another channel has taken the place of one; `upstream` makes the connection, which is dealt with as
    `settings` say.
    """

    board: Switchboard
    submits: ForwardedShares
    new_channel: Callable[[WorkSource, int, int, ExtranonceSpace | None], Channel]
    finder: Callable[[int], str | None]
    price: Callable[[], tuple[WorkPrice, int] | None]
    epoch: Callable[[WorkPrice, int], int]
    on_event: Callable[["UpstreamChannel", str, str, int], None]
    on_change: Callable[[], None]
    vardiff: VardiffPolicy
    tips: PastTips
    miner_bytes: int
    rng: random.Random
    settings: UpstreamSettings = UpstreamSettings()
    connect: Connect = trio.open_tcp_stream
    upstream: Callable[..., Upstream] = Upstream
    spaces: PrefixSpaces = msgspec.field(default_factory=PrefixSpaces)


class UpstreamChannel:
    """UpstreamOwner of its connection, WorkSource of its channels.

    `since_s` is when it began to serve, or not to (monotonic). `out_since_s`: when it was last up for
    STEADY_S. One that comes and goes is as good as gone.
    """

    def __init__(self, services: ChannelServices, record: UpstreamRecord, order_id: int | None) -> None:
        self.record = record
        self.order_id = order_id
        self.serving = False
        self.since_s = self.out_since_s = trio.current_time()
        self._services = services
        self.channel = services.new_channel(self, PREFIX_BYTES_MAX, services.miner_bytes, None)  # usual
        self.channel.paused = True
        self._replaced: list[tuple[float, Channel]] = []  # when, and what; one of a shape at most
        self._split: ExtranonceSplit | None = None  # as the upstream's connection had it last
        self._upstream: Upstream | None = None
        self._held_since_s = 0.0  # by it
        self._leave = trio.Event()  # the present connections are to end
        self._over = False
        # The newest work that is not published yet; a clean one is urgent.
        self._offers = Paced[Work](REFRESH_GAP_S, urgent_gap_s=CLEAN_GAP_S)
        self._masks = Paced[int](MASK_GAP_S)  # the newest that nobody has been told
        self._published_s = 0.0
        self._tip = b""  # the previous block of the work that is mined
        self._connection: int | None = None  # that the published work came from
        self._price: WorkPrice | None = None  # that the published work has
        self._bounds_are_new = False
        self._log = log.bind(upstream=record.name, channel=self.channel.number)

    @property
    def ready(self) -> bool:
        """Whether there is something to mine here."""
        return self.serving and self.channel.current is not None and not self.channel.paused

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The present one, and those that it replaced and that may still have sessions."""
        return (self.channel, *(channel for _, channel in self._replaced))

    async def run(self) -> None:
        """Hold the upstream up until cancelled, and a moment for answers. The channels stay until `close`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._live)
            try:
                await trio.sleep_forever()
            finally:
                self._over = True
                self._leave.set()

    async def _live(self) -> None:
        """One connection after the other; shielded, because each ends when its shares are answered."""
        while not self._over:
            self._leave = trio.Event()
            with trio.CancelScope(shield=True) as life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hold)
                    await self._leave.wait()
                    with trio.move_on_after(ANSWERS_S):
                        while self._upstream is not None and self._upstream.unanswered:  # noqa: ASYNC110
                            await trio.sleep(0.01)
                    life.cancel()

    def follow(self, record: UpstreamRecord) -> None:
        """The upstream has changed: where it is reached in another way, connect anew. The miners stay."""
        before, self.record = self.record, record
        reached = (before.endpoints, before.suggest_difficulty)
        if reached != (record.endpoints, record.suggest_difficulty):
            self._leave.set()

    async def _hold(self) -> None:
        settings = msgspec.structs.replace(
            self._services.settings,
            name=self.record.name,
            need=ExtranonceNeed(miner_bytes_wanted=self._services.miner_bytes),
            suggest_difficulty=self.record.suggest_difficulty,
        )
        make = partial(
            self._services.upstream,
            settings=settings,
            endpoints=self.record.endpoints,
            owner=self,
            rng=self._services.rng,
            connect=self._services.connect,
        )
        try:
            upstream = await trio.to_thread.run_sync(make)  # reads CA files
        except BadUpstream as error:
            self._log.error("upstream_unusable", reason=str(error))
            await trio.sleep_forever()
        self._upstream, self._held_since_s = upstream, trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._publish)
                nursery.start_soon(self._reprice)
                nursery.start_soon(self._tell_masks)
                await upstream.run()
        finally:
            self._upstream = None
            if self.serving:
                self.on_lost("disconnected by us", ())

    def close(self) -> None:
        """After `run`, when no session is here any more."""
        for channel in self.channels:
            self._services.board.remove_channel(channel)
        self._replaced.clear()
        self._services.spaces.leave(self)

    # stratum.miners.channel.WorkSource

    def on_solution(self, solution: Solution) -> None:
        """A share that the upstream takes for one, or a block: sent at once."""
        self._forward(solution)
        finder = self._services.finder(solution.worker)
        if solution.is_block:
            log_found(solution, finder, forwarded=True)

    def _forward(self, solution: Solution) -> None:
        origin = solution.job.work.origin
        assert isinstance(origin, UpstreamJob)
        share = Forwarded(
            # A block that was late when it came first may come again, when its tip is back, as a good share.
            key=solution.hash_internal + bytes([solution.tallied]),
            worker=solution.worker,
            epoch=solution.job.rate,
            difficulty_log2=solution.difficulty_log2,
            counted=solution.tallied,
            target=origin.target,
        )
        found = solution.hash_internal[::-1].hex()
        block_of = self.record.name if solution.is_block else None
        try:
            refusal = self._services.submits.note(share, block_of=block_of)
        except KeyError:  # it is on its way already; a duplicate must neither be counted nor end the pool
            self._log.error("share_forwarded_already", hash=found)
            return
        if refusal is None:
            refusal = self._send(share.key, solution)
            if refusal is not None:
                self._services.submits.resolve(share.key, refusal)
        if refusal is not None and solution.is_block:
            height = solution.job.work.height
            self._log.error("upstream_block_not_sent", reason=refusal.value, height=height, block=found)
        elif refusal is not None:
            self._log.debug("share_not_forwarded", reason=refusal.value)

    def _send(self, key: bytes, solution: Solution) -> NotSent | None:
        return NotSent.NOT_CONNECTED if self._upstream is None else self._upstream.submit(key, solution)

    def forget_the_old(self) -> None:
        """Close what was replaced and left long enough ago; forget work that nobody can use any more."""
        now_s = trio.current_time()
        if not self.serving and not self.channel.sessions and now_s - self.since_s >= LINGER_S:
            # Else prefixes rest for as long as it is gone.
            self._services.board.distribution.forget_work(self.channel)
        for since_s, channel in list(self._replaced):
            if not channel.sessions and now_s - since_s >= LINGER_S:
                self._services.board.remove_channel(channel)
                self._replaced.remove((since_s, channel))

    # stratum.upstream.UpstreamOwner

    def on_extranonce(self, extranonce1: bytes, split: ExtranonceSplit) -> None:
        before, shape = self.channel, (split.prefix_bytes, split.miner_bytes)
        if split != self._split and (split.limits or shape != _shape(before)):
            words = {"limits": split.limits} if split.limits else {}
            self._log.info("upstream_extranonce_split", prefix_bytes=shape[0], miner_bytes=shape[1], **words)
        self._split = split
        self.channel, again = self._channel_for(shape, extranonce1 + bytes(split.filler_bytes))
        if self.channel is before:
            return
        self.channel.version_mask, self.channel.vardiff = before.version_mask, before.vardiff
        self.channel.paused = before.paused = True
        kept = [it for it in self._replaced if not again or it[1] is not self.channel]
        self._replaced = [*kept, (trio.current_time(), before)]
        self._note_steadiness()  # until there is work for it, nothing can be mined here
        self._services.on_change()

    def _channel_for(self, shape: tuple[int, int], before: bytes) -> tuple[Channel, bool]:
        """A channel whose prefixes nobody else has behind these bytes, and whether it was there already.

        One that comes back is the same channel: who goes to and fro without end must not fill the engine.
        """
        spaces, size = self._services.spaces, shape[0]
        # The largest space is the pool's own and everybody's, or large enough to begin anywhere in it.
        shared = spaces.beside(self, before, size) if size < PREFIX_BYTES_MAX else None
        for channel in self.channels:
            space = channel.extranonces
            if shared is not None:
                fits = space is shared
            else:
                fits = size == PREFIX_BYTES_MAX or not spaces.is_shared(self, space)
            if _shape(channel) == shape and fits:
                spaces.enter(self, before, space)
                return channel, True
        channel = self._services.new_channel(self, *shape, shared)
        spaces.enter(self, before, channel.extranonces)
        return channel, False

    def on_mask(self, mask: int) -> None:
        if mask == self.channel.version_mask:
            return
        self.channel.version_mask = mask
        self._masks.put(mask)

    def on_target(self, target: int) -> None:
        policy, most_log2 = self._services.vardiff, floor_log2(difficulty_of_target(max(target, 1)))
        # Not below our own least: an upstream that asks for every hash must not have us drown in shares.
        most_log2 = max(policy.difficulty_log2_min, min(policy.difficulty_log2_max, most_log2))
        self.channel.vardiff = msgspec.structs.replace(policy, difficulty_log2_max=most_log2)
        self._bounds_are_new = True  # the sessions learn it with the work that it is for

    def on_work(self, work: Work, clean: bool) -> None:
        self._offers.put(work, urgent=clean)

    def on_submit_answer(self, answer: SubmitAnswer) -> None:
        self._services.submits.resolve(answer.key, answer)
        self._services.submits.said[self.record.id, answer.verdict, answer.reason] += 1

    def on_up(self, endpoint: UpstreamEndpoint) -> None:
        if not self.serving:  # else another endpoint took over, and nobody has noticed
            self.serving, self.since_s = True, trio.current_time()
        self._services.on_event(self, "served", endpoint.address, len(self.channel.sessions))

    def on_lost(self, reason: str, unanswered: tuple[bytes, ...]) -> None:
        self._note_steadiness()
        self.serving, self.since_s = False, trio.current_time()
        self.channel.paused = True
        self._offers.drop()
        for channel in self.channels:
            channel.undeliverable()
        words = f"{reason}; {len(unanswered)} shares unanswered" if unanswered else reason
        self._services.on_event(self, "lost", words, len(self.channel.sessions))

    def _note_steadiness(self) -> None:
        """It has been up until now."""
        now_s = trio.current_time()
        if self.serving and now_s - self.since_s >= STEADY_S:
            self.out_since_s = now_s

    async def _tell_masks(self) -> None:
        while True:
            await self._masks.due()
            self._masks.hand_on()
            self._services.board.distribution.mask_changed(self.channel)

    # Jobs

    async def _publish(self) -> None:
        """Publish the newest work when there is a price."""
        while True:
            work = await self._offers.due()
            price = self._services.price()
            if price is None:
                await self._price_known()
                continue
            self._price = price[0]
            named = msgspec.structs.replace(price[0], upstream_id=self.record.id, order_id=self.order_id)
            self._publish_work(work, self._services.epoch(named, price[1]), self._offers.hand_on())

    async def _reprice(self) -> None:
        """Where a block is worth something else by now, the work that is mined is published again."""
        while True:
            await trio.sleep(REPRICE_S)
            price, before, current = self._services.price(), self._price, self.channel.current
            if price is None or before is None or current is None:
                continue
            if not self.ready or self._offers.latest is not None:
                continue
            if (price[0].nbits, price[0].subsidy_sat) == (before.nbits, before.subsidy_sat):
                continue
            # Later than all its aliases: who starts the search anew must not find the same shares again.
            work = current.work
            passed_s = int(trio.current_time() - self._published_s) + 2
            later = min(work.ntime + passed_s, work.ntime_max)
            # What was published before is stale: it has the old price.
            self.on_work(msgspec.structs.replace(work, ntime=later), True)

    async def _price_known(self) -> None:
        self._log.warning("upstream_work_waits", reason="no node has said what work is worth")
        while self._services.price() is None:  # noqa: ASYNC110 - at the start only
            await trio.sleep(PRICE_CHECK_S)

    def _publish_work(self, work: Work, epoch: int, clean: bool) -> None:
        origin = work.origin
        assert isinstance(origin, UpstreamJob)
        if work.prevhash_internal != self._tip and not self._services.tips.admit(work.prevhash_internal):
            self._log.error("upstream_work_refused", reason="it is on a block that was left long ago")
            return
        self._tip = work.prevhash_internal
        same_connection = origin.connection == self._connection
        self._connection, self._published_s = origin.connection, trio.current_time()
        began, self.channel.paused = self.channel.paused, False
        if self._bounds_are_new:
            self._bounds_are_new = False
            for session in self.channel.sessions:
                session.bounds_changed()
        self._services.board.distribution.publish(
            self.channel,
            # Whatever nBits the upstream claims, only what is a share to it is looked at as a block.
            msgspec.structs.replace(work, network_target=min(work.network_target, origin.target)),
            rate=epoch,
            forward_target=origin.target,
            clean=clean or not same_connection,
            # Of another connection: its late shares may still find their way, the upstream knows.
            outdates=clean and same_connection,
        )
        if began:
            self._services.on_change()

    def status(self, *, diverted: bool) -> UpstreamStatus:
        """As of now."""
        now_s = trio.current_time()
        upstream = self._upstream
        serving = None if upstream is None else upstream.serving
        return UpstreamStatus(
            upstream_id=self.record.id,
            order_id=self.order_id,
            number=self.channel.number,
            serving=None if serving is None else serving.address,
            since_s=now_s - self.since_s,
            endpoints=tuple(
                EndpointStatus(
                    it.endpoint.address,
                    it.state.value,
                    it.reason,
                    now_s - max(it.since_s, self._held_since_s),
                )
                for it in (() if upstream is None else upstream.status)
            ),
            sessions=sum(len(channel.sessions) for channel in self.channels),
            prefix_bytes=self.channel.extranonces.size,
            miner_bytes=self.channel.extranonce2_size,
            limits="" if self._split is None else self._split.limits,
            unanswered=0 if upstream is None else upstream.unanswered,
            diverted=diverted,
        )


def _shape(channel: Channel) -> tuple[int, int]:
    """How it shares out extranonces: bytes of prefix and of the miner's part."""
    return channel.extranonces.size, channel.extranonce2_size
