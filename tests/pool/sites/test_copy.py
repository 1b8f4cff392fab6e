"""What the hub said is on disk whole, for its owner alone; too old, or another's, it is not begun with."""

import stat
from pathlib import Path

import msgspec
import pytest

from payouts.rates import Scheme
from pool.books.journal.prices import KnownPrices
from pool.fleet.registry import ContainerRecord, Snapshot, TenantRecord, WorkerRecord
from pool.hub import Begin, Part, Plan, Start
from pool.journal.beginning import Beginning
from pool.journal.frames import Place
from pool.sites.copy import FILE, VERSION, Copy, CopyOnDisk, NoCopy
from tests.stages.journal import Clock

SAID = Begin(
    part=Part(3, 256),
    journal="",
    snapshot=Snapshot(
        (
            TenantRecord(
                id=1, name="acme", active=True, scheme=Scheme.FPPS, fee_bps=200, proxied=frozenset({2})
            ),
        ),
        (ContainerRecord(id=1, tenant_id=1, name="c1", site="north"),),
        (WorkerRecord(id=259, tenant_id=1, container_id=1, unit="u1", difficulty_log2=16),),
    ),
    start=Start(
        beginning=Beginning(book="ab" * 16, behind=Place(7, b"d" * 16), moment_s=5, accepted=9),
        tips=(),
        fee_basis_id=4,
        prices=KnownPrices(next_number=2, upstreams={1: "north"}, orders={}, bases=((4, b"b"),), left=()),
    ),
)

PLAN = Plan({}, {})
WRITER = "ab" * 16


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def copy(tmp_path: Path, clock: Clock) -> CopyOnDisk:
    return CopyOnDisk(tmp_path, clock)


def test_what_was_said_is_read_again(copy: CopyOnDisk, clock: Clock, tmp_path: Path) -> None:
    copy.keep("north", 2, WRITER, SAID, PLAN)
    found = copy.read("north", WRITER, hours_max=72)
    assert (found.edge, found.epoch, found.said_at_s, found.begin) == ("north", 2, int(clock.now_s), SAID)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_the_bound_is_a_bound(copy: CopyOnDisk, clock: Clock) -> None:
    copy.keep("north", 2, WRITER, SAID, PLAN)
    clock.now_s += 72 * 3600 - 1
    copy.read("north", WRITER, hours_max=72)
    clock.now_s += 1
    with pytest.raises(NoCopy, match="heard 72 hours ago"):
        copy.read("north", WRITER, hours_max=72)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "never been heard"),
        (b"", "damaged"),
        (b"\xc1 not msgpack", "damaged"),
        (
            msgspec.msgpack.encode(Copy(VERSION, "north", 2, 1, WRITER, SAID, PLAN)).replace(
                b"north", b"nor\xff\xff"
            ),
            "damaged",
        ),
        (
            msgspec.msgpack.encode(Copy(VERSION, "south", 2, 1_700_000_000, WRITER, SAID, PLAN)),
            "of edge south",
        ),
        (
            msgspec.msgpack.encode(Copy(VERSION, "north", 2, 1_700_000_000, "cd" * 16, SAID, PLAN)),
            "of the journal cdcd",
        ),
        (
            msgspec.msgpack.encode(Copy(VERSION + 1, "north", 2, 1_700_000_000, WRITER, SAID, PLAN)),
            "another version",
        ),
        (
            msgspec.msgpack.encode(Copy(VERSION, "north", 2, 1_700_000_000, WRITER, SAID, PLAN))[:-1],
            "damaged",
        ),
    ],
)
def test_what_is_not_its_own_is_refused_in_words(
    copy: CopyOnDisk, tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(NoCopy, match=words):
        copy.read("north", WRITER, hours_max=1_000)
