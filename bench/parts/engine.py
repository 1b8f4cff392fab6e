"""What a share costs in the native engine: feed + validate, by code path, branch depth and batch size.

Every share comes in a feed() of its own, as from a miner that found
one; `batch` is how many of them validate() judges at once. They are new, and meet the easiest target. What
is measured is CPU time, and the fastest run counts: the machine may be busy with other things. No sockets.
"""

import gc
import time
from itertools import product
from typing import Any, Final

import msgspec

from bench.part import Part, Section, table
from stratum._engine import Engine, backend, backends
from stratum.tallies import Verdict

DEPTHS = (0, 6, 12, 14)
BATCHES = (1, 16, 512)
SHARES = 4096  # in one timed run: some 5 ms, long enough for the clock
RUNS = 5
EASIEST_LOG2 = -32
COINBASE1_BYTES, COINBASE2_BYTES = 100, 150  # a scriptSig with a tag; two outputs and the commitment
NTIME = 1_700_000_000


class Cost(msgspec.Struct, frozen=True):
    """CPU time of one share on jobs of one shape."""

    backend: str
    depth: int
    batch: int
    ns_per_share: float


def measure() -> list[Cost]:
    """Every combination; some ten seconds."""
    return [
        Cost(name, depth, batch, min(_run(name, depth, batch) for _ in range(RUNS)))
        for name, depth, batch in product(backends, DEPTHS, BATCHES)
    ]


def us_in_use(depth: int, batch: int) -> float:
    """Microseconds of a share with the code that is in use here, its memory in the processor's caches."""
    return min(_run(backend, depth, batch) for _ in range(RUNS)) / 1_000


def _run(name: str, depth: int, batch: int) -> float:
    engine = Engine(backend=name)
    _add_job(engine, depth)
    sessions = [_mining_session(engine, number) for number in range(batch)]
    rounds = [
        [(session, _submit(session, at + session)) for session in sessions] for at in range(0, SHARES, batch)
    ]
    feed, validate = engine.feed, engine.validate
    gc.disable()
    try:
        started_ns = time.thread_time_ns()
        for shares in rounds:
            for session, line in shares:
                feed(session, line)
            validate()
        spent_ns = time.thread_time_ns() - started_ns
    finally:
        gc.enable()
    judged = len(rounds) * batch
    if engine.totals()[Verdict.ACCEPTED] < 0.99 * judged:  # one hash in 65,536 is above the easiest target
        raise RuntimeError(f"not every share was accepted: {engine.totals()}")
    return spent_ns / judged


def _add_job(engine: Engine, depth: int) -> None:
    engine.add_channel(1)
    engine.add_job(
        channel=1,
        seq=1,
        rate=1,
        coinbase1=bytes(COINBASE1_BYTES),
        coinbase2=bytes(COINBASE2_BYTES),
        extranonce_size=8,
        branch=bytes(32 * depth),
        prevhash_internal=bytes(31) + b"\x01",
        version=0x20000000,
        nbits=0x1D00FFFF,
        ntime_min=NTIME,
        ntime_max=NTIME,
        network_target_le=bytes(32),
    )


def _mining_session(engine: Engine, number: int) -> int:
    session = engine.open(object())
    engine.subscribe(session, 1, number.to_bytes(4, "big"), 4)
    engine.authorise(session, _name(session), session + 1)
    engine.pin_difficulty(session, EASIEST_LOG2, 1)
    return session


def _name(session: int) -> bytes:
    return b"acme.c%02d.r01s%02d" % divmod(session, 100)


def _submit(session: int, nonce: int) -> bytes:
    return b'{"params": ["%b", "1", "%08x", "%08x", "%08x"], "id": %d, "method": "mining.submit"}\n' % (
        _name(session),
        nonce,
        NTIME,
        nonce,
        nonce,
    )


def run() -> dict[str, Any]:
    return {"in_use": backend, "costs": [msgspec.to_builtins(it) for it in measure()]}


def section(result: dict[str, Any]) -> Section:
    costs = {(it["backend"], it["depth"], it["batch"]): it["ns_per_share"] for it in result["costs"]}
    names = list(dict.fromkeys(it["backend"] for it in result["costs"]))
    rows = [
        [f"{depth} branches, {batch} at once", *(f"{costs[name, depth, batch]:,.0f}" for name in names)]
        for depth, batch in product(DEPTHS, BATCHES)
    ]
    words = f"Parsing and judging a share, nanoseconds of processor; {result['in_use']} is in use here:\n"
    return Section((words, *table(("", *names), rows)))


PART: Final = Part(title="The engine", seconds=15, run=run, section=section)
