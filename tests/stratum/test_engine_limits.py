"""What the engine refuses, and that it holds on to nothing: values, bounds, threads, memory."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from stratum import _engine
from stratum._engine import WORKER_NAME_BYTES_MAX, WORKERS_PER_SESSION_MAX, Engine
from stratum.tallies import Verdict
from tests.stages.engine import EASIEST_LOG2, Mine, submit_line, work

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


# Values


@pytest.mark.parametrize(
    ("changes", "size", "reason"),
    [
        ({"prevhash_internal": bytes(31)}, 8, "prevhash"),
        ({"branch": (bytes(31),)}, 8, "branch"),
        ({"branch": (bytes(32),) * 33}, 8, "branch"),
        ({"coinbase1": bytes(70_000)}, 8, "coinbase"),
        ({}, 17, "extranonce"),
        ({}, 2**63, "coinbase"),
        ({}, 2**64 - 1, "extranonce"),
    ],
)
def test_an_impossible_job_is_refused_and_changes_nothing(
    changes: dict[str, Any], size: int, reason: str
) -> None:
    mine = Mine()
    seq = mine.publish(work())
    miner = mine.join()
    impossible = work(**{"prevhash_internal": b"\x99" * 32} | changes)
    with pytest.raises(ValueError, match=reason):
        mine.publish(impossible, size=size)
    miner.submit(job=seq)
    assert mine.judge() == [Verdict.ACCEPTED]


def test_values_out_of_range_are_refused() -> None:
    mine = Mine()
    engine, session = mine.engine, mine.join().session
    with pytest.raises(ValueError, match="exists"):
        engine.add_channel(1)
    for extranonce1, size in [(b"", 4), (bytes(9), 4), (bytes(4), 0), (bytes(4), 9)]:
        with pytest.raises(ValueError, match="extranonce"):
            engine.subscribe(session, 1, extranonce1, size)
    for difficulty_log2 in (-33, 64):
        with pytest.raises(ValueError, match="difficulty"):
            engine.pin_difficulty(session, difficulty_log2, 1)
    with pytest.raises(ValueError, match="nobody"):
        engine.authorise(session, b"a", 0)
    with pytest.raises(ValueError, match="too long"):
        engine.authorise(session, bytes(WORKER_NAME_BYTES_MAX + 1), 1)
    with pytest.raises(TypeError):
        engine.set_version_mask(session, 1 << 32)
    with pytest.raises(TypeError):
        engine.set_version_mask(session, -1)


def test_what_does_not_exist_is_an_index_error() -> None:
    engine = Engine()
    engine.open(object())
    for call in (
        lambda: engine.remove_channel(1),
        lambda: engine.drop_jobs_before(1, 1),
        lambda: engine.add_alias(1, 2, 1),
        lambda: engine.duplicates(1),
        lambda: engine.subscribe(0, 1, bytes(4), 4),
        lambda: engine.close(1),
        lambda: engine.feed(1, b""),
        lambda: engine.counters(1),
        lambda: engine.pins(1),
        lambda: engine.authorise(1, b"a", 1),
        lambda: engine.set_retarget_after(1, 1),
        lambda: engine.pin_difficulty(1, 1, 1),
    ):
        with pytest.raises(IndexError):
            call()


def test_a_session_has_a_limited_number_of_workers() -> None:
    mine = Mine()
    mine.publish(work())
    names = tuple(f"w{number}" for number in range(WORKERS_PER_SESSION_MAX))
    miner = mine.join(names=names)
    with pytest.raises(ValueError, match="too many workers"):
        mine.engine.authorise(miner.session, b"one more", 1)
    mine.engine.authorise(miner.session, b"w0", 99)  # known: only its number changes
    for name in (names[0], names[-1]):
        miner.submit(worker=name, nonce=len(name))
    mine.judge()
    assert [tally.worker for tally in mine.tallies()] == [5 + WORKERS_PER_SESSION_MAX - 1, 99]


# Bounds


def test_a_full_duplicate_filter_counts_no_share_that_it_could_not_remember() -> None:
    mine = Mine(duplicates_max=50)
    mine.publish(work())
    miner = mine.join()
    for nonce in [*range(60), *range(60)]:
        miner.submit(nonce=nonce)
    assert mine.judge() == [Verdict.ACCEPTED] * 50 + [Verdict.FILTER_FULL] * 10 + (
        [Verdict.DUPLICATE] * 50 + [Verdict.FILTER_FULL] * 10
    )
    assert mine.engine.duplicates(1) == 50
    mine.publish(work(prevhash_internal=b"\x99" * 32))
    miner.submit(job=2)
    assert mine.judge() == [Verdict.ACCEPTED]


def test_the_filter_knows_every_one_of_many_shares() -> None:
    """Its tables grow several times on the way."""
    mine = Mine()
    mine.publish(work(branch=()))
    miner = mine.join()
    lines = b"".join(submit_line(nonce=nonce) for nonce in range(20_000))
    assert miner.say(lines) == []
    first = mine.judge()
    assert miner.say(lines) == []
    again = mine.judge()
    turned = {Verdict.ACCEPTED: Verdict.DUPLICATE, Verdict.LOW_DIFFICULTY: Verdict.LOW_DIFFICULTY}
    assert again == [turned[verdict] for verdict in first]
    assert mine.engine.duplicates(1) == first.count(Verdict.ACCEPTED) > 19_990


def test_the_queue_has_a_limit_and_the_engine_goes_on_after_it() -> None:
    mine = Mine()
    mine.publish(work())
    miner, other = mine.join(), mine.join(extranonce1=b"\xee" * 4)
    packet = submit_line(nonce="nonsense") * 1024
    for _ in range(256):
        assert miner.say(packet) == []
    assert mine.engine.queued() == 262_144
    with pytest.raises(ValueError, match="queue is full"):
        other.say(submit_line() + b'{"half a line')
    assert len(mine.judge()) == 262_144
    other.submit()  # what was not read is gone with the error, the half line too
    assert mine.judge() == [Verdict.ACCEPTED]


def test_the_ids_of_queued_shares_have_a_limit() -> None:
    mine = Mine(line_bytes_max=20 * MIB)
    miner = mine.join()
    line = submit_line(id="i" * 10 * MIB)
    for _ in range(6):
        assert miner.say(line) == []
    with pytest.raises(ValueError, match="queue is full"):
        miner.say(line)


def test_blocks_that_a_start_was_told_of_become_fewer() -> None:
    """They stayed as many as they were, since each block that was left took the place of one: a day of them
    where a site was dark for a day, with what was credited on them, here and in the books of the hub."""
    mine, told = Mine(), [bytes([number]) * 32 for number in range(1, 11)]
    for block in told:
        mine.engine.remember(block, block[:16])
    left = [bytes([number]) * 32 for number in range(101, 113)]
    known = []
    for block in left:
        mine.publish(work(prevhash_internal=block))
        known.append([it for it in told + left if mine.engine.remembers(it)])
    assert known[1] == [*told[:8], *left[:2]], (
        "two go for one that comes, those first that it was told of last"
    )
    assert known[-1] == left[-2:]


def test_a_solution_is_remembered_among_thousands() -> None:
    mine = Mine()
    mine.publish(work(branch=(), network_target=(1 << 256) - 1))
    miner = mine.join()
    lines = b"".join(submit_line(nonce=nonce) for nonce in range(2000))
    for _ in range(2):
        assert miner.say(lines) == []
        mine.judge()
    assert len(mine.found) == len({found.hash_internal for found in mine.found}) == 2000


# Threads


def _refuses(engine: Engine) -> bool:
    try:
        engine.queued()
    except RuntimeError:
        return True
    return False


def test_a_second_thread_is_refused_while_the_first_one_hashes_without_the_gil() -> None:
    mine = Mine(backend="portable")
    mine.publish(work(branch=(bytes(32),) * 32))
    miner = mine.join()
    assert miner.say(b"".join(submit_line(nonce=nonce) for nonce in range(20_000))) == []
    hashing = threading.Thread(target=mine.engine.validate)
    hashing.start()
    refusals = 0
    while hashing.is_alive():
        refusals += _refuses(mine.engine)
        time.sleep(0)
    hashing.join()
    assert refusals > 0
    assert mine.engine.queued() == 0
    assert sum(mine.engine.totals()) == 20_000


# Memory


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see memory")


class Owner:
    """Stands for a connection."""


def _come_and_go(engine: Engine, sessions: int) -> None:
    for number in range(sessions):
        session = engine.open(Owner())
        engine.subscribe(session, 1, number.to_bytes(4, "big"), 4)
        engine.authorise(session, b"acme.c01.r%09d" % number, 1 + number)
        engine.pin_difficulty(session, EASIEST_LOG2, 0)
        engine.feed(session, submit_line(worker=f"acme.c01.r{number:09}"))
        engine.feed(session, b"x" * 500)
        engine.close(session)
        if number % 100 == 0:
            engine.validate()
            engine.collect_tallies()
            engine.collect_uncharged()
    engine.validate()


@needs_proc
def test_a_hundred_thousand_sessions_that_came_and_went_leave_nothing_behind() -> None:
    engine = Engine()
    engine.add_channel(1)
    _come_and_go(engine, 10_000)
    before_bytes = _rss_bytes()
    _come_and_go(engine, 100_000)
    assert _rss_bytes() - before_bytes < MIB
    assert engine.open(Owner()) < 200


def test_sessions_that_come_and_go_without_a_share_reuse_one_number() -> None:
    engine = Engine()
    numbers = set()
    for _ in range(1000):
        session = engine.open(Owner())
        engine.close(session)
        numbers.add(session)
    assert numbers == {0}


@needs_proc
def test_a_session_gives_the_memory_of_a_long_line_back() -> None:
    engine = Engine()
    half = b"x" * 4000
    sessions = [engine.open(Owner()) for _ in range(5000)]
    before_bytes = _rss_bytes()
    for session in sessions:
        assert engine.feed(session, half) is None
        assert engine.feed(session, half + b"\n") == half + half
        assert engine.feed(session, b"") is None
    assert _rss_bytes() - before_bytes < 8 * MIB  # of 40


def test_an_owner_is_let_go_with_its_session() -> None:
    engine = Engine()
    owner = Owner()
    gone = weakref.ref(owner)
    session = engine.open(owner)
    del owner
    assert gone() is not None
    engine.close(session)
    assert gone() is None


def test_an_engine_and_owners_that_know_each_other_are_collected() -> None:
    class Loop:
        def __init__(self) -> None:
            self.engine = Engine()
            self.session = self.engine.open(self)

    loop = Loop()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_an_engine_that_was_never_initialised_is_collected() -> None:
    class Subclass(Engine):
        itself: object

    never = Subclass.__new__(Subclass)
    never.itself = never
    gone = weakref.ref(never)
    del never
    gc.collect()
    assert gone() is None


def test_an_owners_destructor_may_call_the_engine() -> None:
    class Last:
        def __init__(self, engine: Engine, heard: list[int]) -> None:
            self.engine, self.heard = engine, heard

        def __del__(self) -> None:
            self.heard.append(self.engine.queued())

    heard: list[int] = []
    engine = Engine()
    engine.close(engine.open(Last(engine, heard)))
    assert heard == [0]


def test_a_backend_can_be_forced_by_the_environment() -> None:
    script = "from stratum import _engine; print(_engine.backend)"
    for name in _engine.backends:
        ran = _python(script, name)
        assert (ran.returncode, ran.stdout.strip()) == (0, name)
    assert "unknown, or not for this CPU" in _python(script, "abacus").stderr


def _python(script: str, backend: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ANGARA_SHA256": backend}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
