"""Random channels, jobs, miners, moves and shares: in every code path, the engine says what the oracle says.

Every output is compared: replies and whose they are, solutions, retargets, tallies, counters, pins, totals,
and what the duplicate filter holds.
"""

import json
from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest

from stratum._engine import NOT_HELD, backends
from stratum.job import Work
from stratum.tallies import Verdict, unpack_tallies
from tests.judges.oracle import ANSWERS, Heard, Oracle, OracleChannel, OracleJob, OracleSession, Share
from tests.stages.engine import ENGINE_VERDICTS, VERSION_MASK, Mine, Miner, work

CHANNELS = (1, 2, 3)
LEAVING = 3  # the channel that may be removed; a tip is forgotten only when no channel is left


class Speaker(msgspec.Struct, eq=False):
    """A miner, what the oracle was told about it, and the answers that it must have got."""

    miner: Miner
    told: OracleSession
    answers: list[bytes] = []


class Scenario:
    """All that happens comes from one seed, the same for every code path. `met` says what it came across."""

    def __init__(self, seed: int, name: str) -> None:
        self.random = random = Random(seed)
        duplicates_max = random.choice([8, 1 << 26])
        self.mine = Mine(backend=name, duplicates_max=duplicates_max)
        self.oracle = Oracle(duplicates_max=duplicates_max)
        self.tips = [random.randbytes(32) for _ in range(2)]
        self.sizes = {channel: random.randint(2, 16) for channel in CHANNELS}  # of both extranonces
        self.works: list[Work] = []
        self.seqs: list[int] = []
        self.speakers: list[Speaker] = []
        self.said: list[tuple[Speaker, Share]] = []
        self.heard: list[tuple[Speaker, int, Heard]] = []
        self.totals: Counter[Verdict] = Counter()
        self.met: Counter[str] = Counter()
        for channel in CHANNELS:
            if channel != 1:
                self.mine.engine.add_channel(channel)
            self.oracle.channels[channel] = OracleChannel()

    def run(self) -> None:
        random = self.random
        self.publish(1)
        for _ in range(random.randint(2, 5)):
            self.publish(self.channel())
        for _ in range(random.randint(1, 5)):
            self.join()
        happenings = {
            self.submit: 120,
            self.move: 6,
            lambda: self.publish(self.channel()): 5,
            self.alias: 4,
            self.undelivered: 2,
            self.drop_jobs: 1,
            self.remove_channel: 0.3,
            self.join: 1,
            self.leave: 0.5,
            self.version_mask: 2,
            self.retarget: 3,
        }
        for _ in range(random.randint(1, 4)):
            for happens in random.choices([*happenings], [*happenings.values()], k=random.randint(1, 200)):
                happens()
            self.judge()
        tallies = self.mine.tally_counts()
        assert tallies == self.oracle.tallies
        self.every_share_is_counted_once(tallies)
        assert self.mine.engine.totals() == [self.totals[verdict] for verdict in ENGINE_VERDICTS]

    def every_share_is_counted_once(self, tallies: Counter[tuple[int, int, int, Verdict]]) -> None:
        """In a tally, with those that charge nobody, or handed out to whoever counts it."""
        counted = Counter(dict.fromkeys(Verdict, 0))
        for (_, _, _, verdict), count in tallies.items():
            counted[verdict] += count
        for uncharged in unpack_tallies(self.mine.engine.collect_uncharged()):
            assert (uncharged.rate, uncharged.difficulty_log2) == (0, 0)
            counted[uncharged.verdict] += uncharged.count
        counted[Verdict.ACCEPTED] += sum(not it.tallied for it in self.mine.found)
        assert [counted[it] for it in ENGINE_VERDICTS] == [self.totals[it] for it in ENGINE_VERDICTS]

    # What a work source does

    def channel(self) -> int:
        return self.random.choice([*self.oracle.channels])

    def work(self) -> Work:
        """Often that of an earlier job, of whatever channel."""
        random = self.random
        network_target = (1 << 256 - random.choice([1, 4, 9, 40])) - 1
        if self.works and random.random() < 0.3:
            return msgspec.structs.replace(random.choice(self.works), network_target=network_target)
        ntime = random.randint(1000, 2**32 - 1000)
        new = work(
            prevhash_internal=random.choice([self.tips[0]] * 9 + [self.tips[1]]),
            coinbase1=random.randbytes(random.randint(0, 200)),
            coinbase2=random.randbytes(random.randint(0, 200)),
            branch=tuple(random.randbytes(32) for _ in range(random.randint(0, 14))),
            version=random.getrandbits(32),
            nbits=random.getrandbits(32),
            ntime=ntime,
            ntime_min=ntime - random.randint(0, 3),
            ntime_max=ntime + random.randint(0, 3),
            network_target=network_target,
        )
        self.works.append(new)
        return new

    def publish(self, channel: int) -> None:
        random = self.random
        job = self.work()
        rate = random.randint(1, 3)
        size = self.sizes[channel] if random.random() < 0.95 else random.randint(0, 16)
        forward_target = random.choice([None, None, 0, (1 << 256 - random.choice([0, 2, 5])) - 1])
        clean, start_log2 = random.random() < 0.07, random.choice([None, -32, -31])
        facts: dict[str, Any] = {
            "channel": channel,
            "rate": rate,
            "size": size,
            "forward_target": forward_target,
        }
        seq = self.mine.publish(job, clean=clean, start_log2=start_log2, **facts)
        first = self.oracle.first(job, size, seq, start_log2)
        told = OracleJob(seq=seq, work=job, first=first, **facts)
        self.oracle.add_job(told, clean=clean)
        self.seqs.append(seq)

    def alias(self) -> None:
        channel = self.channel()
        jobs = self.oracle.channels[channel].jobs
        if jobs:
            of_seq = self.random.choice([*jobs])
            seq = self.mine.alias(of_seq, channel=channel)
            jobs[seq] = jobs[of_seq]
            self.seqs.append(seq)

    def undelivered(self) -> None:
        channel, seq = self.channel(), self.random.choice([0, *self.seqs, self.seqs[-1] + 1])
        self.mine.engine.undelivered_before(channel, seq)
        self.oracle.channels[channel].undelivered_before = seq

    def drop_jobs(self) -> None:
        channel, seq = self.channel(), self.random.choice(self.seqs)
        self.mine.engine.drop_jobs_before(channel, seq)
        jobs = self.oracle.channels[channel].jobs
        self.oracle.channels[channel].jobs = {at: job for at, job in jobs.items() if at >= seq}

    def remove_channel(self) -> None:
        if LEAVING in self.oracle.channels:
            self.mine.engine.remove_channel(LEAVING)
            del self.oracle.channels[LEAVING]

    # What becomes of a session

    def join(self) -> None:
        random = self.random
        speaker = Speaker(Miner(self.mine), OracleSession())
        self.speakers.append(speaker)
        session = speaker.miner.session
        for worker, name in enumerate(["anna", "berta"], start=10 * len(self.speakers)):
            self.mine.engine.authorise(session, name.encode(), worker)
            speaker.told.workers[name] = worker
        if random.random() < 0.5:
            self._set_version_mask(speaker)
        if random.random() < 0.95:
            channel = self.channel()
            self._subscribe(speaker, channel, *self.extranonces(channel), from_seq=0)
        self._set_version_mask(speaker)
        for from_seq in [0, random.choice(self.seqs), random.choice(self.seqs)][random.random() < 0.2 :]:
            self._pin(speaker, from_seq)

    def extranonces(self, channel: int) -> tuple[bytes, int]:
        """An extranonce1, often the same, and the size of the extranonce2."""
        size = self.sizes[channel]
        size1 = self.random.randint(max(1, size - 8), min(8, size - 1))
        extranonce1 = self.random.choice([bytes(size1), bytes([0xE1]) * size1, self.random.randbytes(size1)])
        return extranonce1, size - size1

    def move(self) -> None:
        """To another channel or other extranonces; mostly from the next job on."""
        speaker, channel = self.random.choice(self.speakers), self.channel()
        next_seq = self.seqs[-1] + 1
        from_seq = self.random.choice([next_seq] * 5 + [next_seq - 1, self.random.choice(self.seqs), 0])
        places = speaker.told.places
        extranonce1, size2 = self.extranonces(channel)
        if places and 0 < from_seq < places[-1].from_seq:
            with pytest.raises(ValueError, match="later job"):
                self.mine.engine.subscribe(speaker.miner.session, channel, extranonce1, size2, from_seq)
            return
        self._subscribe(speaker, channel, extranonce1, size2, from_seq=from_seq)
        if not speaker.told.pins:
            self._pin(speaker, from_seq=0)
        if self.random.random() < 0.8:
            self.publish(channel)

    def _subscribe(
        self, speaker: Speaker, channel: int, extranonce1: bytes, size2: int, *, from_seq: int
    ) -> None:
        session = speaker.miner.session
        self.mine.engine.subscribe(session, channel, extranonce1, size2, from_seq)
        speaker.told.subscribe(channel, extranonce1, size2, from_seq=from_seq)

    def version_mask(self) -> None:
        self._set_version_mask(self.random.choice(self.speakers))

    def _set_version_mask(self, speaker: Speaker) -> None:
        mask = self.random.choice([0, VERSION_MASK, VERSION_MASK, 0x00C00000, 0xFFFFFFFF])
        self.mine.engine.set_version_mask(speaker.miner.session, mask)
        speaker.told.set_version_mask(mask)

    def retarget(self) -> None:
        speaker = self.random.choice(self.speakers)
        self._pin(speaker, self.random.choice([self.seqs[-1] + 1, self.random.choice(self.seqs)]))
        shares = self.random.randint(0, 4)
        self.mine.engine.set_retarget_after(speaker.miner.session, shares)
        speaker.told.set_retarget_after(shares)

    def _pin(self, speaker: Speaker, from_seq: int) -> None:
        difficulty_log2 = self.random.randint(-32, self.random.choice([-32, -31, -30, 20]))
        if self.random.random() < 0.1:
            difficulty_log2 = NOT_HELD
        self.mine.engine.pin_difficulty(speaker.miner.session, difficulty_log2, from_seq)
        speaker.told.pin(difficulty_log2, from_seq)

    def leave(self) -> None:
        if len(self.speakers) > 1:
            speaker = self.speakers.pop(self.random.randrange(len(self.speakers)))
            speaker.miner.close()
            speaker.told.closed = True

    # Shares

    def submit(self) -> None:
        speaker = self.random.choice(self.speakers)
        share = self.share(speaker.told)
        if self.said and self.random.random() < 0.25:
            first, share = self.random.choice(self.said)
            if first in self.speakers and self.random.random() < 0.8:
                speaker = first
        self.said.append((speaker, share))
        message = {"id": len(self.heard), "method": "mining.submit", "params": share.params()}
        assert speaker.miner.say(json.dumps(message).encode() + b"\n") == []
        self.heard.append((speaker, len(self.heard), self.oracle.hear(speaker.told, share)))

    def share(self, told: OracleSession) -> Share:
        """Mostly on a job of the place where the session was by then."""
        random = self.random
        size2, mask, job = 4, told.version_mask, None
        seq = random.choice(self.seqs)
        for _ in range(8):
            if told.places:
                place = told.place(seq)
                size2, mask = place.extranonce2_size, place.version_mask
                channel = self.oracle.channels.get(place.channel)
                job = channel.jobs.get(seq) if channel else None
            if job is not None:
                break
            seq = random.choice(self.seqs)
        known = job.work if job else self.works[0]
        return Share(
            worker=random.choice(["anna"] * 8 + ["berta"] * 8 + ["nobody"]),
            seq=seq if random.random() < 0.97 else seq + 1000,
            extranonce2=bytes(size2 - (random.random() < 0.03)),
            ntime=random.choice([known.ntime] * 8 + [known.ntime_min - 1, known.ntime_max + 1]),
            nonce=random.choice([*range(9), *[random.getrandbits(32)] * 9, None]),
            rolled=random.choice([None, None, 0, mask, mask, 0x00002000, 0xC0000000]),
        )

    def judge(self) -> None:
        assert self.mine.engine.queued() == len(self.heard)
        expected = self.oracle.judge()
        self.mine.judge()
        self.totals.update(expected)
        for (speaker, number, heard), verdict in zip(self.heard, expected, strict=True):
            if not speaker.told.closed:
                speaker.answers.append(b'{"id":%d,%b' % (number, ANSWERS[verdict]))
            if verdict is Verdict.ACCEPTED and heard.place and heard.job:
                present = speaker.told.places[-1]
                self.met["good share of a place that was left"] += heard.place.from_seq < present.from_seq
                undelivered_before = self.oracle.channels[heard.job.channel].undelivered_before
                self.met["forwarded, though undelivered"] += heard.job.seq < undelivered_before
        for speaker in {speaker for speaker, _, _ in self.heard}:
            assert speaker.miner.answers == speaker.answers
        self.heard = []
        assert self.mine.found == self.oracle.found
        told = {speaker.miner: speaker.told for speaker in self.speakers}
        assert [told[miner] for miner in self.mine.due] == self.oracle.due
        self.met["retarget"] += len(self.mine.due)
        for miner, session in told.items():
            counters = (session.accepted, session.rejected, session.at_difficulty)
            assert self.mine.engine.counters(miner.session) == counters
            assert self.mine.engine.pins(miner.session) == session.pins
        for channel, facts in self.oracle.channels.items():
            credited = len(self.oracle.credited[facts.tip]) if facts.tip else 0
            assert self.mine.engine.duplicates(channel) == credited


@pytest.mark.simulation
@pytest.mark.parametrize("name", backends)
def test_every_code_path_judges_random_shares_like_the_oracle(name: str) -> None:
    """And they meet everything there is."""
    totals: Counter[Verdict] = Counter()
    met: Counter[str] = Counter()
    for seed in range(40):
        scenario = Scenario(seed, name)
        try:
            scenario.run()
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        totals += scenario.totals
        met += scenario.met
        met.update("tallied block" if found.tallied else "forwarded" for found in scenario.oracle.found)
    assert set(totals) == set(ENGINE_VERDICTS)
    assert set(met) == {
        "good share of a place that was left",
        "forwarded, though undelivered",
        "forwarded",
        "tallied block",
        "retarget",
    }
