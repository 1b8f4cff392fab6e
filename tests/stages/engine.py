"""An engine with a channel, jobs and miners: the place where engine tests happen.

Every share of a miner takes the way of production: JSON text in feed(), replies out of validate().
"""

import json
from collections import Counter
from typing import Any

import msgspec

from stratum._engine import Engine
from stratum.job import Work
from stratum.tallies import Tally, Verdict, unpack_tallies
from tests.judges.oracle import ANSWERS, Found

CHANNEL = 1
NTIME = 1_700_000_000
EASIEST_LOG2 = -32  # one hash in 65,536 is not a share
UNREACHABLE_LOG2 = 20  # one hash in 2^52 is a share
EVERY_HASH = (1 << 256) - 1  # a network target that makes every share a block
NO_HASH = 0
VERSION_MASK = 0x1FFFE000
ENGINE_VERDICTS = list(ANSWERS)  # all but what only an upstream can say
# What a reply says: an undelivered share is accepted, as far as its miner is told.
VERDICTS = {answer: verdict for verdict, answer in ANSWERS.items() if verdict is not Verdict.UNDELIVERED}


def work(**changes: Any) -> Work:
    """Ordinary work, on which no share is a block."""
    fields: dict[str, Any] = {
        "prevhash_internal": b"\x01" * 32,
        "coinbase1": b"\x02" * 90,
        "coinbase2": b"\x03" * 60,
        "branch": (b"\x04" * 32, b"\x05" * 32),
        "version": 0x20000000,
        "nbits": 0x1D00FFFF,
        "ntime": NTIME,
        "ntime_min": NTIME - 100,
        "ntime_max": NTIME + 100,
        "height": 1,
        "network_target": NO_HASH,
    }
    return Work(**fields | changes)


class Mine:
    """`verdicts` are those of the last judge(), in the order of the replies."""

    def __init__(self, **options: Any) -> None:
        self.engine = Engine(**options)
        self.engine.add_channel(CHANNEL)
        self.verdicts: list[Verdict] = []
        self.found: list[Found] = []
        self.due: list[Miner] = []
        self._last_seq = 0

    def publish(
        self,
        work: Work,
        *,
        seq: int | None = None,
        rate: int = 7,
        channel: int = CHANNEL,
        size: int = 8,
        forward_target: int | None = None,
        clean: bool = False,
        start_log2: int | None = EASIEST_LOG2,
    ) -> int:
        """Work as a new job; its seq. `size`: of both extranonces together."""
        self._last_seq = self._last_seq + 1 if seq is None else seq
        self.engine.add_job(
            channel=channel,
            seq=self._last_seq,
            rate=rate,
            coinbase1=work.coinbase1,
            coinbase2=work.coinbase2,
            extranonce_size=size,
            branch=b"".join(work.branch),
            prevhash_internal=work.prevhash_internal,
            version=work.version,
            nbits=work.nbits,
            ntime_min=work.ntime_min,
            ntime_max=work.ntime_max,
            network_target_le=work.network_target.to_bytes(32, "little"),
            forward_target_le=None if forward_target is None else forward_target.to_bytes(32, "little"),
            clean=clean,
            start_log2=start_log2,
        )
        return self._last_seq

    def alias(self, of_seq: int, *, channel: int = CHANNEL) -> int:
        self._last_seq += 1
        self.engine.add_alias(channel, self._last_seq, of_seq)
        return self._last_seq

    def join(
        self,
        *,
        extranonce1: bytes = b"\xe1\xe1\xe1\xe1",
        names: tuple[str, ...] = ("acme.c01.r01",),
        worker: int = 5,
        difficulty_log2: int = EASIEST_LOG2,
        from_seq: int = 0,
        channel: int = CHANNEL,
    ) -> "Miner":
        """A miner after its handshake; its names are the workers `worker`, `worker` + 1, ..."""
        miner = Miner(self)
        self.engine.subscribe(miner.session, channel, extranonce1, 4)
        for at, name in enumerate(names):
            self.engine.authorise(miner.session, name.encode(), worker + at)
        self.engine.set_version_mask(miner.session, VERSION_MASK)
        self.engine.pin_difficulty(miner.session, difficulty_log2, from_seq)
        return miner

    def judge(self) -> list[Verdict]:
        """Judge what is queued. Replies go to their miners."""
        replies, found, self.due = self.engine.validate()
        self.verdicts = []
        for miner, data in replies:
            for line in data.splitlines():
                miner.answers.append(line)
                self.verdicts.append(VERDICTS[line[line.index(b'"result"') :]])
        self.found += [msgspec.convert(it, Found, from_attributes=True) for it in found]
        return self.verdicts

    def tallies(self) -> list[Tally]:
        """Taken, in a fixed order."""
        return sorted(unpack_tallies(self.engine.collect_tallies()), key=msgspec.structs.astuple)

    def tally_counts(self) -> Counter[tuple[int, int, int, Verdict]]:
        return Counter({msgspec.structs.astuple(tally)[:-1]: tally.count for tally in self.tallies()})


class Miner:
    """One session; `answers` are the replies that it got."""

    def __init__(self, mine: Mine) -> None:
        self.engine = mine.engine
        self.session = mine.engine.open(self)
        self.answers: list[bytes] = []

    def say(self, data: bytes) -> list[bytes]:
        """One packet; the lines that the engine handed back."""
        lines = []
        line = self.engine.feed(self.session, data)
        while line is not None:
            lines.append(line)
            line = self.engine.feed(self.session, b"")
        return lines

    def submit(self, **changes: Any) -> None:
        """A share in plain JSON, see submit_line()."""
        assert self.say(submit_line(**changes)) == []

    def move(self, channel: int, *, extranonce1: bytes, from_seq: int, extranonce2_size: int = 4) -> None:
        """It mines that channel, from the job from_seq on."""
        self.engine.subscribe(self.session, channel, extranonce1, extranonce2_size, from_seq)

    def close(self) -> None:
        self.engine.close(self.session)


def submit_params(
    *,
    worker: Any = "acme.c01.r01",
    job: Any = 1,
    extranonce2: Any = "e2e2e2e2",
    ntime: Any = f"{NTIME:08x}",
    nonce: Any = 0,
    rolled: Any = None,
) -> list[Any]:
    """job, nonce and rolled may be numbers, which are written in hex."""
    params = [worker, _hex(job, "x"), extranonce2, ntime, _hex(nonce, "08x")]
    return params if rolled is None else [*params, _hex(rolled, "08x")]


def submit_line(*, id: Any = 4, **changes: Any) -> bytes:
    """A mining.submit with its line feed."""
    message = {"id": id, "method": "mining.submit", "params": submit_params(**changes)}
    return json.dumps(message).encode() + b"\n"


def _hex(value: Any, form: str) -> Any:
    return format(value, form) if isinstance(value, int) else value
