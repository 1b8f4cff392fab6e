"""Each piece of work has one difficulty for each extranonce1, from the moment that it comes.

All that miners, upstreams and moves can do is done at random, and after each step the engine is asked for
the difficulty of every live job, for everybody who could send a share of it. The expected answer is fixed
when the work comes: what is in force for whoever holds the extranonce1 then, or what the work itself brings.
"""

import random
from collections.abc import Iterable
from typing import Final

import msgspec
import pytest

from stratum.job import Job, Work
from stratum.miners.channel import Channel, Member
from stratum.miners.mining_session import State
from tests.stages.sessions import LEAST_LOG2, START_LOG2, Miner, SessionStage, make_work

SEEDS: Final = range(24)
STEPS: Final = 120
MINERS_MAX: Final = 6
FEW_PREFIXES: Final = 10

# What a hash is a hash of: the work, and with which extranonce1.
Space = tuple[bytes, bytes, bytes, tuple[bytes, ...], bytes]


class Stage:
    """A channel of our own, one of an upstream with the same extranonces, one of an upstream with others."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.stage = SessionStage()
        self.own = self.stage.channel
        self.twin = self.stage.add_channel(like=self.own)
        self.other = self.stage.add_channel(1, 8)
        for _ in range(256 - FEW_PREFIXES):  # so that they come round
            self.other.lease(None, 0.0)
        self.channels = (self.own, self.twin, self.other)
        self.miners: list[Miner] = []
        self.prefixes: list[bytes] = []  # that anybody had
        self.works: list[tuple[Channel, Work]] = []  # of upstreams
        self.decided: dict[Space, int | None] = {}
        self.starts: dict[tuple[bytes, bytes, bool], int | None] = {}
        self.known: set[int] = set()  # jobs
        self.checked = 0
        for number in range(4):
            self.stage.admission.remembered_log2[f"acme.c01.m{number}"] = START_LOG2 + number
        for channel in (self.twin, self.other):
            self.publish(channel)
        self.check()

    def step(self) -> None:
        happenings = (
            *(
                self.connect,
                self.suggest,
                self.minimum,
                self.another_worker,
                self.again,
                self.leave,
                self.move,
            ),
            *(self.upstream_job, self.upstream_repeats, self.own_job, self.late, self.serve, self.serve),
        )
        self.random.choice(happenings)()
        self.check()

    def log2(self) -> int:
        return self.random.randint(LEAST_LOG2, START_LOG2 + 8)

    def somebody(self) -> Miner | None:
        return self.random.choice(self.miners) if self.miners else None

    # What may happen

    def connect(self) -> None:
        if len(self.miners) >= MINERS_MAX:
            return
        worker = f"acme.c01.m{self.random.randrange(8)}"
        miner = self.stage.connect(worker)
        self.miners.append(miner)
        self.stage.admission.channels[worker] = self.random.choice(self.channels)
        if self.random.random() < 0.5:
            miner.ask("mining.extranonce.subscribe")
        resume = (
            [self.random.choice(self.prefixes).hex()] if self.prefixes and self.random.random() < 0.7 else []
        )
        miner.ask("mining.subscribe", "test/1", *resume)
        if miner.session.closing is not None:  # there is no room
            self.miners.remove(miner)
            miner.leave()
            return
        if self.random.random() < 0.5:
            self.own_job()
        ways = ["x", f"d={2.0 ** self.log2()}", f"md={2.0 ** self.log2()}"]
        miner.ask("mining.authorize", worker, self.random.choice(ways))

    def suggest(self) -> None:
        if miner := self.somebody():
            miner.ask("mining.suggest_difficulty", 2.0 ** self.log2())

    def minimum(self) -> None:
        if miner := self.somebody():
            options = {"minimum-difficulty.value": 2.0 ** self.log2()}
            miner.ask("mining.configure", ["minimum-difficulty"], options)

    def another_worker(self) -> None:
        if miner := self.somebody():
            miner.ask("mining.authorize", f"acme.c01.m{self.random.randrange(8)}", f"md={2.0 ** self.log2()}")

    def again(self) -> None:
        if miner := self.somebody():
            miner.ask("mining.subscribe", "test/1")

    def leave(self) -> None:
        if (miner := self.somebody()) and self.random.random() < 0.5:
            self.miners.remove(miner)
            miner.leave()

    def move(self) -> None:
        miner, channel = self.somebody(), self.random.choice(self.channels)
        if miner is None or miner.session.state is not State.MINING or miner.assignment.leaving:
            return
        if miner.channel is not channel:
            self.stage.move(miner, channel)

    def publish(self, channel: Channel, work: Work | None = None) -> None:
        """To all, or only to those who wait: the others get it late."""
        if work is None:
            work = make_work(7, refresh=self.stage.job_ids.last, upstream=channel is not self.own)
            if channel is not self.own:
                self.works.append((channel, work))
        job = channel.publish(work, rate=1, start_log2=self.random.choice([START_LOG2, START_LOG2 + 3]))
        everybody = job.clean or self.random.random() < 0.5
        sessions = in_order(channel.sessions if everybody else channel.waiting)
        self.note(channel, job, sessions)
        self.stage.distribution.send_current(channel, sessions, clean=job.clean, fresh=job.space == job.seq)

    def own_job(self) -> None:
        self.publish(self.own)

    def upstream_job(self) -> None:
        self.publish(self.random.choice((self.twin, self.other)))

    def upstream_repeats(self) -> None:
        """The present work or an earlier one, perhaps at another time; now and then on the other channel."""
        channel, work = self.random.choice(self.works)
        if self.random.random() < 0.1 and channel is self.other:
            channel = self.twin
        self.publish(channel, msgspec.structs.replace(work, ntime=work.ntime + self.random.randrange(3)))

    def late(self) -> None:
        """A refresh that is under way reaches some."""
        channel = self.random.choice(self.channels)
        sessions = [one for one in in_order(channel.sessions) if self.random.random() < 0.5]
        self.stage.distribution.send_current(channel, sessions, fresh=False)

    def serve(self) -> None:
        for channel in self.channels:
            waiting = in_order(channel.servable())
            if waiting and (job := channel.anew()) is not None:
                self.note(channel, job, waiting)
                self.stage.distribution.send_current(channel, waiting, fresh=True)
            elif waiting and channel.alias() is not None:
                self.stage.distribution.send_current(channel, waiting, fresh=False)

    # What must hold

    def note(self, channel: Channel, job: Job, served: list[Member]) -> None:
        """Work has come, and nobody has been told: who is served now has its new difficulty with it."""
        if job.space != job.seq:
            return
        self.starts[made_of(job)] = job.start_log2
        for miner in self.miners:
            it, told = miner.assignment, miner.assignment._told_channel
            if it in served and it.difficulty.pending_log2 is not None:
                assert it.extranonce1 is not None
                self.decided[(*space(job), it.extranonce1)] = it.difficulty.pending_log2
            elif told is not None and told.same_extranonces(channel):
                in_force = self.stage.engine.judged_at(it.slot, channel.number, job.seq)
                self.decided[(*space(job), miner.extranonce1)] = in_force

    def check(self) -> None:
        for miner in self.miners:
            miner.hear()
            channel = miner.assignment._told_channel
            if channel is None:
                continue
            if miner.extranonce1 not in self.prefixes:
                self.prefixes.append(miner.extranonce1)
            for seq, job in channel.jobs.items():
                judged = self.stage.engine.judged_at(miner.session.slot, channel.number, seq)
                key = (*space(job), miner.extranonce1)
                expected = self.decided.get(key, self.starts.get(made_of(job), START_LOG2))
                assert judged is None or judged == expected, f"job {seq}"
                self.checked += 1


def in_order(sessions: Iterable[Member]) -> list[Member]:
    """So that a seed is a story."""
    return sorted(sessions, key=lambda session: session.slot)


def made_of(job: Job) -> tuple[bytes, bytes, bool]:
    """The third channel's coinbases are shorter."""
    return job.work.prevhash_internal, job.work.coinbase1, job.channel == 3


def space(job: Job) -> tuple[bytes, bytes, bytes, tuple[bytes, ...]]:
    work = job.work
    return work.prevhash_internal, work.coinbase1, work.coinbase2, work.branch


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_happens_changes_the_difficulty_of_work_that_is_out(seed: int) -> None:
    stage = Stage(seed)
    for _ in range(STEPS):
        stage.step()
    assert stage.checked > 0
