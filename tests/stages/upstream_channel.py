"""An upstream channel as in production, its switchboard and its miners, without sockets.

The test says what the upstream says, what our node's price is, and how long a price takes to be on disk.
Must not know: how an upstream is spoken to.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import trio
import trio.testing

from pool.books.journal.forwarded_shares import ForwardedShares
from pool.books.journal.rate_epochs import WorkPrice
from pool.upstreams.channel import ChannelServices, UpstreamChannel
from pool.upstreams.past_tips import PastTips
from pool.upstreams.rows import UpstreamRecord
from stratum.job import Solution, Work
from stratum.miners.channel import Channel, WorkSource
from stratum.miners.connection import write_all
from stratum.miners.distribution import Distribution
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.switchboard import BoardLimits, Switchboard
from stratum.miners.turns.connection_limits import ConnectionBounds, ConnectionLimits
from stratum.upstream.client import UpstreamOwner
from stratum.upstream.endpoint import BadUpstream, UpstreamEndpoint
from stratum.upstream.endpoint_state import PlaceStatus
from stratum.upstream.extranonce_split import ExtranonceSplit
from stratum.upstream.failover import UpstreamSettings
from stratum.upstream.shares import (
    NotSent,
    RejectReason,
    SubmitAnswer,
    SubmitVerdict,
    UpstreamJob,
    UpstreamShare,
)
from tests.fakes.work_sources import SourceThatTells
from tests.stages.routing import NORTH, upstream
from tests.stages.sessions import LEAST_LOG2, Miner, SessionStage, make_work
from tests.stages.sockets import MemoryJournal
from tests.stages.waiting import until_a_thread_has

ORDER_NUMBER: Final = 7
OUR_PRICE: Final = WorkPrice(nbits=0x17034219, subsidy_sat=312_500_000, fee_basis_id=4)
OUR_HEIGHT: Final = 900_000
EVERY_HASH: Final = (1 << 256) - 1
SAME: Final = ExtranonceSplit(filler_bytes=0, prefix_bytes=4, miner_bytes=8)  # as our own work
OTHER: Final = ExtranonceSplit(filler_bytes=0, prefix_bytes=2, miner_bytes=4)


def work_on(height: int = 1, *, connection: int = 1, target: int = EVERY_HASH, **changes: Any) -> Work:
    """As an upstream's session makes it; `refresh` gives other work on the same block."""
    origin = UpstreamJob(
        upstream="north", connection=connection, job_id="a", version=0x20000000, filler=b"", target=target
    )
    return make_work(height, upstream=True, origin=origin, **changes)


class UpstreamThatTheTestSpeaksFor:
    """In the place of stratum.upstream.Upstream: serves when the test says so, and takes every share.

    `refuses` is why it does not; `unanswered` is what it says to have sent.
    """

    def __init__(
        self,
        *,
        settings: UpstreamSettings,
        endpoints: tuple[UpstreamEndpoint, ...],
        owner: UpstreamOwner,
        rng: random.Random,
        connect: object,
    ) -> None:
        self.settings = settings
        self.endpoints = endpoints
        self.owner = owner
        self.status: tuple[PlaceStatus, ...] = ()
        self.serving: UpstreamEndpoint | None = None
        self.refuses: NotSent | None = None
        self.unanswered = 0
        self.sent: list[bytes] = []

    async def run(self) -> None:
        await trio.sleep_forever()

    def submit(self, key: bytes, solution: Solution) -> NotSent | None:
        if self.refuses is None:
            self.sent.append(key)
        return self.refuses

    def serve(self, work: Work | None = None, *, split: ExtranonceSplit = SAME) -> None:
        """A connection begins to serve, with its first job."""
        work = work or work_on()
        origin = work.origin
        assert isinstance(origin, UpstreamJob)
        self.serving = self.endpoints[0]
        self.owner.on_extranonce(b"\xa1\xb2", split)
        self.owner.on_mask(0x1FFFE000)
        self.owner.on_target(origin.target)
        self.owner.on_work(work, True)
        self.owner.on_up(self.endpoints[0])

    def go_on(self, work: Work, *, split: ExtranonceSplit) -> None:
        """The connection that serves shares out its extranonces in another way from this job on."""
        self.owner.on_extranonce(b"\xa1\xb2", split)
        self.owner.on_work(work, True)

    def lose(self, *unanswered: bytes) -> None:
        """The connection that served is gone."""
        self.serving = None
        self.owner.on_lost("closed by the upstream", unanswered)

    def answer(self, verdict: SubmitVerdict, reason: RejectReason | None = None) -> None:
        """The oldest share that was sent."""
        key, job = self.sent.pop(0), work_on().origin
        assert isinstance(job, UpstreamJob)
        share = UpstreamShare(key=key, job=job, extranonce2=b"", ntime=0, nonce=0, version=0)
        self.owner.on_submit_answer(SubmitAnswer(share=share, verdict=verdict, reason=reason))


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What was given to a channel."""

    at_s: float
    channel: Channel
    work: Work
    rate: int
    forward_target: int | None
    clean: bool
    outdates: bool


class DistributionThatNotes(Distribution):
    """One that remembers what was published."""

    def __init__(self, stage: SessionStage, board: Switchboard) -> None:
        super().__init__(
            stage.services.start_of, judge=board.judge, write_all=write_all, refresh_spread_s=5.0
        )
        self.published: list[Published] = []

    def publish(
        self,
        channel: Channel,
        work: Work,
        *,
        rate: int,
        forward_target: int | None = None,
        clean: bool = False,
        outdates: bool = False,
    ) -> None:
        self.published.append(
            Published(
                at_s=trio.current_time(),
                channel=channel,
                work=work,
                rate=rate,
                forward_target=forward_target,
                clean=clean,
                outdates=outdates,
            )
        )
        super().publish(
            channel, work, rate=rate, forward_target=forward_target, clean=clean, outdates=outdates
        )


class ChannelDesk:
    """The channel `it` of the order 7 on north. Its machines are unit 1 to n of acme's container c01."""

    def __init__(self, least_log2: int = LEAST_LOG2, **changes: Any) -> None:
        self.stage = SessionStage()
        self.stage.now_s = trio.current_time()
        self.price: tuple[WorkPrice, int] | None = (OUR_PRICE, OUR_HEIGHT)
        self.priced: list[tuple[WorkPrice, int]] = []  # epochs are numbered by it, from 1
        self.events: list[tuple[str, str]] = []
        self.changes = 0  # how often sessions may have to be moved
        self.submits = ForwardedShares()
        self.upstreams: list[UpstreamThatTheTestSpeaksFor] = []
        self.board = Switchboard(
            services=self.stage.services,
            connection_limits=ConnectionLimits(ConnectionBounds()),
            journal=MemoryJournal(),
            limits=BoardLimits(),
        )
        self.board.distribution = self.distribution = DistributionThatNotes(self.stage, self.board)
        self.distribution.add_channel(self.stage.channel)
        self.solutions: list[Solution] = []
        self._services = ChannelServices(
            board=self.board,
            submits=self.submits,
            new_channel=self._new_channel,
            price=lambda: self.price,
            epoch=self._epoch,
            finder=lambda number: f"worker {number}",
            on_event=lambda it, event, words, sessions: self.events.append((event, words)),
            on_change=self._note_change,
            vardiff=msgspec.structs.replace(self.stage.services.vardiff, difficulty_log2_min=least_log2),
            tips=PastTips(self.stage.engine.remembers),
            miner_bytes=8,
            rng=random.Random(1),
            upstream=self.make_upstream,
        )
        self.it = UpstreamChannel(self._services, upstream(NORTH, **changes), ORDER_NUMBER)

    @property
    def upstream(self) -> UpstreamThatTheTestSpeaksFor:
        """The newest."""
        return self.upstreams[-1]

    @property
    def published(self) -> list[Published]:
        return self.distribution.published

    def _new_channel(
        self, source: WorkSource, prefix_bytes: int, miner_bytes: int, space: ExtranonceSpace | None
    ) -> Channel:
        """As the pool does: those of one shape share their extranonces."""
        assert space is None, "there is no other connection"
        source = SourceThatTells(self.solutions.append, source)
        if (prefix_bytes, miner_bytes) == (4, 8):
            channel = self.stage.add_channel(like=self.stage.channel, source=source)
        else:
            channel = self.stage.add_channel(prefix_bytes, miner_bytes, source=source)
        self.board.distribution.add_channel(channel)
        return channel

    def _epoch(self, price: WorkPrice, height: int) -> int:
        self.priced.append((price, height))
        return len(self.priced)

    def _note_change(self) -> None:
        self.changes += 1

    def make_upstream(self, **options: Any) -> Any:
        """As Upstream does, it reads CA files: of those that are not there one is bad."""
        if any(endpoint.ca_file is not None for endpoint in options["endpoints"]):
            raise BadUpstream("cannot use the CA file")
        self.upstreams.append(UpstreamThatTheTestSpeaksFor(**options))
        return self.upstream

    async def connected(self, times: int = 1) -> UpstreamThatTheTestSpeaksFor:
        """When so many upstreams have been made, which is done in a thread, and the last one is in place."""
        await until_a_thread_has(lambda: len(self.upstreams) >= times)
        upstream: object = self.upstream
        await until_a_thread_has(lambda: self.it._upstream is upstream)
        return self.upstream

    async def settled(self) -> None:
        """Everything has been done that does not have to wait."""
        await trio.testing.wait_all_tasks_blocked()

    def follow(self, record: UpstreamRecord) -> None:
        self.it.follow(record)

    def miner(self, unit: int = 1, *, rolling: bool = False, subscribed: bool = False) -> Miner:
        """One that mines on the present channel. `subscribed`: to changes of extranonces."""
        worker = f"acme.c01.u{unit}"
        self.stage.admission.channels[worker] = self.it.channel
        self.stage.placement_guess.guesses["10.0.0.1"] = self.it.channel
        miner = self.stage.connect(worker)
        if rolling:
            miner.ask("mining.configure", ["version-rolling"], {"version-rolling.mask": "1fffe000"})
        miner.ask("mining.subscribe", "test/1")
        miner.ask("mining.authorize", worker, "x")
        if subscribed:
            miner.ask("mining.extranonce.subscribe")
        return miner

    def mine(self, miner: Miner) -> None:
        """A share is found, sent and judged."""
        miner.hear()
        miner.ask("mining.submit", *miner.share())
        self.board.judge()


@asynccontextmanager
async def holding(*, least_log2: int = LEAST_LOG2, **changes: Any) -> AsyncIterator[ChannelDesk]:
    """The channel is held up until the end; its upstream does not serve yet. `changes`: of north."""
    desk = ChannelDesk(least_log2, **changes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.it.run)
        if not any(endpoint.ca_file is not None for endpoint in desk.it.record.endpoints):
            await desk.connected()
        yield desk
        nursery.cancel_scope.cancel()
