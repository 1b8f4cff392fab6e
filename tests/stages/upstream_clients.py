"""The client's side of tests with other pools: who mines for the upstream, and what becomes of every share.

Must not know: what is wrong with a pool.
"""

import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
import trio.testing

from stratum.job import Job, Solution, Work
from stratum.upstream.client import Upstream
from stratum.upstream.endpoint import UpstreamEndpoint
from stratum.upstream.extranonce_split import ExtranonceSplit
from stratum.upstream.failover import UpstreamSettings
from stratum.upstream.shares import NotSent, RejectReason, SubmitAnswer, SubmitVerdict
from tests.fakes.upstreams import PASSWORD, USER, HonestUpstream, Network, header_hash

PATIENCE_S: Final = 7_200.0  # of virtual time
ACCEPTED: Final = (SubmitVerdict.ACCEPTED, None)
UNANSWERED: Final = (SubmitVerdict.UNANSWERED, None)
SETTINGS: Final = UpstreamSettings(name="north")


def solution_of(
    work: Work, split: ExtranonceSplit, *, nonce: int = 1, prefix: int = 7, rolled: int = 0
) -> Solution:
    """What the engine hands out for a share on `work`: whatever its hash is."""
    extranonce1 = prefix.to_bytes(split.prefix_bytes, "big")
    extranonce2 = nonce.to_bytes(split.miner_bytes, "big")
    version = work.version ^ rolled
    found = header_hash(
        work.coinbase1 + extranonce1 + extranonce2 + work.coinbase2,
        list(work.branch),
        struct.pack("<I", version) + work.prevhash_internal,
        struct.pack("<III", work.ntime, work.nbits, nonce),
    )
    return Solution(
        job=Job(seq=1, channel=1, rate=1, clean=True, work=work),
        worker=1,
        extranonce1=extranonce1,
        extranonce2=extranonce2,
        ntime=work.ntime,
        nonce=nonce,
        version=version,
        hash_internal=found,
        difficulty_log2=0,
        tallied=True,
    )


def endpoint(host: str, *, tls: bool = False, ca_file: str | None = None) -> UpstreamEndpoint:
    return UpstreamEndpoint(host=host, port=3333, user=USER, password=PASSWORD, tls=tls, ca_file=ca_file)


class Owner:
    """Notes what it is told, and when."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.told: list[tuple[float, str, Any]] = []
        self.split: ExtranonceSplit | None = None
        self.works: list[Work] = []
        self.answers: list[SubmitAnswer] = []
        self._patience_s = patience_s
        self._began_s = trio.current_time()
        self._news = trio.Event()

    def _note(self, what: str, value: Any) -> None:
        self.told.append((trio.current_time() - self._began_s, what, value))
        self._news.set()
        self._news = trio.Event()

    def on_extranonce(self, extranonce1: bytes, split: ExtranonceSplit) -> None:
        self.split = split
        self._note("extranonce", extranonce1.hex())

    def on_mask(self, mask: int) -> None:
        self._note("mask", mask)

    def on_target(self, target: int) -> None:
        self._note("target", target)

    def on_work(self, work: Work, clean: bool) -> None:
        self.works.append(work)
        self._note("work", clean)

    def on_submit_answer(self, answer: SubmitAnswer) -> None:
        self.answers.append(answer)
        self._note("answer", answer.key)

    def on_up(self, endpoint: UpstreamEndpoint) -> None:
        self._note("up", endpoint.host)

    def on_lost(self, reason: str, unanswered: tuple[bytes, ...]) -> None:
        self._note("lost", (reason, unanswered))

    def all(self, what: str) -> list[Any]:
        return [value for _, told, value in self.told if told == what]

    @property
    def verdicts(self) -> dict[bytes, tuple[SubmitVerdict, RejectReason | None]]:
        return {answer.key: (answer.verdict, answer.reason) for answer in self.answers}

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds, which it soon must."""
        with trio.fail_after(self._patience_s):
            while not condition():
                await self._news.wait()

    async def until_up(self, times: int = 1) -> None:
        await self.wait_for(lambda: len(self.all("up")) >= times)


class OwnerThatRaises(Owner):
    """Cannot take a job that comes as `bad`, counted from 0."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self._bad = bad

    def on_work(self, work: Work, clean: bool) -> None:
        super().on_work(work, clean)
        if len(self.works) == self._bad + 1:
            raise ValueError("the engine will not have it")


class UpstreamClient:
    """An upstream that is held up, and its owner."""

    def __init__(
        self,
        network: Network,
        endpoints: Sequence[UpstreamEndpoint],
        settings: UpstreamSettings,
        owner: Owner | None = None,
    ) -> None:
        self.network = network
        self.began_s = trio.current_time()
        self.found: dict[bytes, bytes] = {}  # hashes of what was sent, by key
        self.owner = owner or Owner()
        self.scope = trio.CancelScope()
        self.upstream = Upstream(
            settings=settings,
            endpoints=endpoints,
            owner=self.owner,
            rng=random.Random(7),
            connect=network.connect,
        )

    async def run(self) -> None:
        with self.scope:
            await self.upstream.run()

    @property
    def now_s(self) -> float:
        """Since the beginning."""
        return trio.current_time() - self.began_s

    def share(self, nonce: int, **options: int) -> Solution:
        """A share on the newest work."""
        assert self.owner.split is not None
        return solution_of(self.owner.works[-1], self.owner.split, nonce=nonce, **options)

    def send(self, solution: Solution) -> NotSent | None:
        """Submit it; its key is its nonce as text."""
        key = b"%d" % solution.nonce
        refusal = self.upstream.submit(key, solution)
        if refusal is None:
            self.found[key] = solution.hash_internal
        return refusal

    def submit(self, nonce: int, **options: int) -> NotSent | None:
        """A share on the newest work, sent."""
        return self.send(self.share(nonce, **options))

    async def answers(self, count: int) -> None:
        """Wait until so many shares are resolved."""
        await self.owner.wait_for(lambda: len(self.owner.answers) >= count)


@asynccontextmanager
async def mining(
    settings: UpstreamSettings = SETTINGS,
    *,
    up: bool = True,
    owner: Owner | None = None,
    endpoints: Sequence[UpstreamEndpoint] = (),
    **pools: HonestUpstream,
) -> AsyncIterator[UpstreamClient]:
    """A site with pools a, b, ... in this order, when the first of them that can serves.

    At the end every share is resolved, once, and what was accepted here is counted there, as it was found.
    """
    async with trio.open_nursery() as nursery:
        hosts = {f"{name}.pool.example": pool for name, pool in pools.items()}
        places = endpoints or [endpoint(host) for host in hosts]
        client = UpstreamClient(Network(nursery, hosts), places, settings, owner)
        nursery.start_soon(client.run)
        if up:
            await client.owner.until_up()
        yield client
        client.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert client.found.keys() == client.owner.verdicts.keys()
    counted = {found for pool in pools.values() for found in pool.counted}
    assert {client.found[key] for key, said in client.owner.verdicts.items() if said == ACCEPTED} <= counted
    assert max(Counter(answer.key for answer in client.owner.answers).values(), default=1) == 1
