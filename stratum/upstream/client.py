"""An upstream: one account at another pool, held up over an ordered list of endpoints.

One connection serves at a time. When it is lost, everything that is due is tried, in order, each a moment
after the one before; the first that has a job serves. While it is not the first of the list, those before it
are tried on the side; one that stays up for a while takes over, and the connection before it stays open for a
moment, for shares that are under way and their answers.

A share that was unanswered when its connection was lost is sent once more if the next connection goes to the
same address and resumes the same extranonce1, and nowhere else; otherwise it is unanswered for good.

Invariants: each share that `submit` took is resolved once, a stop included; a credential is in no log line
and no error.
Must not know: channels, miners, what a share is worth.
"""

import random
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
import structlog
import trio

from stratum.difficulty import target_from_nbits
from stratum.job import Solution, Work
from stratum.upstream.connection import Connect, Fault, UpstreamLink
from stratum.upstream.endpoint import BadUpstream, UpstreamEndpoint, public_suffixes, tls_context
from stratum.upstream.endpoint_state import Place, PlaceStatus
from stratum.upstream.events import (
    ExtranonceChanged,
    JobReceived,
    MaskChanged,
    TargetChanged,
    UpstreamEvent,
)
from stratum.upstream.extranonce_split import ExtranonceSplit
from stratum.upstream.failover import UpstreamSearch, UpstreamSettings
from stratum.upstream.session import UpstreamSession
from stratum.upstream.shares import (
    NotSent,
    SubmitAnswer,
    UpstreamJob,
    UpstreamShare,
)
from stratum.upstream.submits import unanswered

log = structlog.get_logger()

ENDPOINTS_MAX: Final = 16  # a pool has a handful; each that is tried costs a connection


class UpstreamOwner(Protocol):
    """Who mines for the upstream. Called from the upstream's task; must neither block nor raise.

    At each connection that begins to serve: on_extranonce, on_mask, on_target, on_work, on_up. What changes
    later comes alone, always before the work that it is for.
    """

    def on_extranonce(self, extranonce1: bytes, split: ExtranonceSplit) -> None:
        """Sessions get `split.prefix_bytes` and `split.miner_bytes`. extranonce1 is in the works already."""

    def on_mask(self, mask: int) -> None:
        """Version bits that may be rolled, from now on; 0: none."""

    def on_target(self, target: int) -> None:
        """A hash not above it is to be submitted, from the next work on."""

    def on_work(self, work: Work, clean: bool) -> None:
        """Mine this; `clean`: and nothing else any more. The origin is an UpstreamJob."""

    def on_submit_answer(self, answer: SubmitAnswer) -> None:
        """A share is resolved."""

    def on_up(self, endpoint: UpstreamEndpoint) -> None:
        """This endpoint serves now."""

    def on_lost(self, reason: str, unanswered: tuple[bytes, ...]) -> None:
        """None serves, until the next on_up. Each key will still be resolved."""


class _Limbo(msgspec.Struct, frozen=True):
    """A connection that was lost, and what it left unanswered."""

    link: UpstreamLink
    shares: list[UpstreamShare]
    until_s: float

    def resumed_by(self, link: UpstreamLink) -> bool:
        """Whether the upstream takes the new connection for the old one."""
        old, new = self.link.session, link.session
        return (
            link.endpoint is self.link.endpoint
            and link.address == self.link.address
            and (new.extranonce1, new.split) == (old.extranonce1, old.split)
            and trio.current_time() <= self.until_s
        )


class Upstream:
    """Run `run`, call `submit`. Reads CA files, for some tens of milliseconds. Raises BadUpstream."""

    def __init__(
        self,
        *,
        settings: UpstreamSettings,
        endpoints: Sequence[UpstreamEndpoint],
        owner: UpstreamOwner,
        rng: random.Random,
        connect: Connect = trio.open_tcp_stream,
    ) -> None:
        if not 1 <= len(endpoints) <= ENDPOINTS_MAX:
            raise BadUpstream(f"{settings.name}: an upstream has 1 to {ENDPOINTS_MAX} endpoints")
        if len(set(endpoints)) < len(endpoints):
            raise BadUpstream(f"{settings.name}: an endpoint is there twice")
        contexts = {ca_file: tls_context(ca_file) for ca_file in {e.ca_file for e in endpoints if e.tls}}
        public_suffixes()  # read now, beside the CAs, and not in the middle of an upstream's redirection
        self._settings = settings
        self._owner = owner
        self._search = UpstreamSearch(
            settings=settings,
            places=[
                Place(e, contexts[e.ca_file] if e.tls else None, settings.back_off, rng) for e in endpoints
            ],
            connect=connect,
            on_event=self._on_event,
        )
        self._serving: UpstreamLink | None = None
        self._links: dict[int, UpstreamLink] = {}  # that take shares, by the connection of the share's job
        self._limbo: _Limbo | None = None
        self._log = log.bind(upstream=settings.name)

    @property
    def status(self) -> tuple[PlaceStatus, ...]:
        """How each endpoint is, in order."""
        return tuple(place.status for place in self._search.places)

    @property
    def serving(self) -> UpstreamEndpoint | None:
        """The endpoint that we mine on."""
        return None if self._serving is None else self._serving.endpoint

    @property
    def unanswered(self) -> int:
        """Shares that were sent and are not resolved."""
        waiting = sum(len(link.session.submits) for link in set(self._links.values()))
        return waiting + (0 if self._limbo is None else len(self._limbo.shares))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the upstream up until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                link = await self._search.seek(nursery)
                while True:
                    self._serve(link)
                    better = await self._until_lost(link, nursery)
                    if better is not None:
                        nursery.start_soon(self._leave, link)
                        link = better
                    else:
                        self._lose(link, nursery)
                        link = await self._search.seek(nursery, link)
        finally:
            self._resolve_everything()

    def submit(self, key: bytes, solution: Solution) -> NotSent | None:
        """Send a share at once, a block ahead of others. None: its answer will come to the owner."""
        work = solution.job.work
        origin = work.origin
        if not isinstance(origin, UpstreamJob) or origin.upstream != self._settings.name:
            return NotSent.OTHER_SOURCE
        number = int.from_bytes(solution.hash_internal, "little")
        is_block = number <= target_from_nbits(work.nbits)
        if number > origin.target and not is_block:
            return NotSent.LOW_DIFFICULTY
        share = UpstreamShare(
            key=key,
            job=origin,
            extranonce2=solution.extranonce1 + solution.extranonce2,
            ntime=solution.ntime,
            nonce=solution.nonce,
            version=solution.version,
            is_block=is_block,
        )
        refusal = self._send(share)
        if is_block and refusal is None:
            found = solution.hash_internal[::-1].hex()
            self._log.info("upstream_block_sent", height=work.height, block=found)
        return refusal

    def _send(self, share: UpstreamShare) -> NotSent | None:
        link = self._links.get(share.job.connection)
        if link is None:
            return NotSent.NOT_CONNECTED
        refusal = link.refusal(share)
        if refusal is None:
            link.submit(share)
        return refusal

    # Connections

    def _serve(self, link: UpstreamLink) -> None:
        self._serving = link
        self._links[link.session.connection] = link
        self._log.info("upstream_serves", endpoint=link.endpoint.address)
        try:
            self._introduce(link.session)
            self._owner.on_up(link.endpoint)
        except Exception:  # a mistake of ours about one upstream must not cost the others their miners
            self._log.exception("upstream_not_served")
            link.end(Fault.BROKEN, "internal error")
        self._leave_limbo(link)

    def _introduce(self, session: UpstreamSession) -> None:
        """Everything that the owner has not heard, being told of what serves only."""
        assert session.split is not None
        assert session.work is not None
        self._owner.on_extranonce(session.extranonce1, session.split)
        self._owner.on_mask(session.mask or 0)
        self._owner.on_target(session.target)
        self._owner.on_work(session.work, True)

    async def _until_lost(self, link: UpstreamLink, nursery: trio.Nursery) -> UpstreamLink | None:
        """Returns when the link is lost, or with a better one."""
        better: UpstreamLink | None = None
        async with trio.open_nursery() as watch:

            async def wait_for_better() -> None:
                nonlocal better
                better = await self._search.better_than(link, nursery)
                watch.cancel_scope.cancel()

            watch.start_soon(wait_for_better)
            await link.lost.wait()
            watch.cancel_scope.cancel()
        return better

    async def _leave(self, link: UpstreamLink) -> None:
        """Another one serves: late shares and answers still get through for a while."""
        with trio.move_on_after(self._settings.drain_s):
            await link.lost.wait()
        link.end(Fault.ENDED, "left for a better endpoint")
        await link.lost.wait()
        self._forget(link)
        for shares in link.session.submits.collect():
            self._give_up(shares)

    def _lose(self, link: UpstreamLink, nursery: trio.Nursery) -> None:
        assert link.failure is not None
        self._serving = None
        self._forget(link)
        once, twice = link.session.submits.collect()
        if once or twice:
            self._log.warning("upstream_shares_unanswered", shares=len(once) + len(twice))
        self._limbo = _Limbo(link, once, trio.current_time() + self._settings.resubmit_s)
        nursery.start_soon(self._wait_in_limbo, self._limbo)
        self._owner.on_lost(link.failure.reason, tuple(share.key for share in (*once, *twice)))
        self._give_up(twice)

    def _forget(self, link: UpstreamLink) -> None:
        self._links = {number: other for number, other in self._links.items() if other is not link}

    # Shares without an answer

    def _leave_limbo(self, link: UpstreamLink) -> None:
        """A connection serves: what the last one left is sent again, or given up."""
        limbo, self._limbo = self._limbo, None
        if limbo is None:
            return
        if not limbo.resumed_by(link):
            self._give_up(limbo.shares)
            return
        self._links[limbo.link.session.connection] = link  # its jobs go on, so shares on them do
        for share in limbo.shares:
            if link.refusal(share) is None:
                link.submit(share, again=True)
            else:
                self._give_up([share])

    async def _wait_in_limbo(self, limbo: _Limbo) -> None:
        await trio.sleep_until(limbo.until_s)
        if self._limbo is limbo:
            self._limbo = None
            self._give_up(limbo.shares)

    def _resolve_everything(self) -> None:
        for link in set(self._links.values()):
            for shares in link.session.submits.collect():
                self._give_up(shares)
        if self._limbo is not None:
            self._give_up(self._limbo.shares)
        self._serving, self._links, self._limbo = None, {}, None

    def _give_up(self, shares: Sequence[UpstreamShare]) -> None:
        for share in shares:
            self._resolve(unanswered(share))

    def _resolve(self, answer: SubmitAnswer) -> None:
        if answer.share.is_block:
            reason = None if answer.reason is None else answer.reason.value
            verdict = answer.verdict.value
            self._log.info("upstream_block_resolved", verdict=verdict, reason=reason, words=answer.words)
        self._owner.on_submit_answer(answer)

    # Events

    def _on_event(self, link: UpstreamLink, event: UpstreamEvent) -> None:
        if isinstance(event, SubmitAnswer):
            self._resolve(event)
        elif link is not self._serving:
            return  # its session remembers what matters when it begins to serve
        elif isinstance(event, JobReceived):
            self._owner.on_work(event.work, event.clean)
        elif isinstance(event, TargetChanged):
            self._owner.on_target(event.target)
        elif isinstance(event, ExtranonceChanged):
            self._owner.on_extranonce(event.extranonce1, event.split)
        elif isinstance(event, MaskChanged):
            self._owner.on_mask(event.mask)
