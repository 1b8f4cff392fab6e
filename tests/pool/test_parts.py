"""A pool before it runs: how many miners it takes, as its settings say and its descriptors allow; and where
its extranonces begin."""

import resource
from pathlib import Path

import pytest

from pool.chain.nodes import NodeConfig
from pool.main import Pool
from pool.parts import DESCRIPTORS_KEPT, with_descriptors
from pool.proof_key import make_proof_key
from stratum.difficulty import DIFFICULTY_LOG2_MIN
from stratum.miners.turns.connection_limits import ConnectionBounds
from tests.fakes.owners import ConnectionFrom
from tests.fixtures.databases import store_in
from tests.stages.two_pools import settings

UNLIMITED = resource.RLIM_INFINITY


class System:
    """A system that allows so many descriptors, and no more than `ceiling` whatever it says."""

    def __init__(self, soft: int, hard: int, *, ceiling: int | None = None) -> None:
        self.limits = (soft, hard)
        self._ceiling = ceiling

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        if self._ceiling is not None and limits[0] > self._ceiling:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("system", "sessions", "descriptors"),
    [
        (System(1_024, 20_000), 20_000 - DESCRIPTORS_KEPT, 20_000),
        (System(20_000, 20_000), 20_000 - DESCRIPTORS_KEPT, 20_000),
        (System(1_024, 1_000_000), 100_000, 100_000 + DESCRIPTORS_KEPT),
        (System(1_024, UNLIMITED), 100_000, 100_000 + DESCRIPTORS_KEPT),
        (System(1_024, UNLIMITED, ceiling=10_240), 1_024 - DESCRIPTORS_KEPT, 1_024),
        (System(UNLIMITED, UNLIMITED), 100_000, UNLIMITED),
        (System(500_000, 1_000_000), 100_000, 500_000),
        (System(64, 64), 1, 64),
    ],
)
def test_sessions_are_bounded_by_descriptors(
    system: System, sessions: int, descriptors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", system.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", system.setrlimit)
    allowed = with_descriptors(ConnectionBounds(sessions_max=100_000), kept=DESCRIPTORS_KEPT)
    assert allowed.sessions_max == sessions
    assert system.limits[0] == descriptors


async def test_no_machine_starts_at_what_a_stranger_with_its_number_of_now_was_brought_down_to(
    tmp_path: Path,
) -> None:
    """A name without a share gives its number back; who has it next is another machine."""
    store = store_in(tmp_path)
    node = NodeConfig(name="first", url="http://127.0.0.1:1", user="u", password="p")
    pool, stranger = Pool(settings(tmp_path, node), store), ConnectionFrom()
    newcomers, silent = pool.books.registry.newcomers, pool.edge.miners.silent
    number = newcomers.admit((1, "c01", "stranger"), "", stranger, 0)
    assert isinstance(number, int)
    assert silent.lower(number, 20, 12)
    silent.left(number)
    newcomers.leave(stranger)
    assert silent.start_log2(number, 20) == 12
    newcomers.forget(newcomers.gone)  # as the next commit does
    assert newcomers.admit((1, "c01", "machine"), "", ConnectionFrom(), 0) == number
    assert silent.start_log2(number, 20) == 20
    assert silent.shares_per_s == 0.0
    store.close()


async def test_starts_begin_with_different_extranonces(tmp_path: Path) -> None:
    """An upstream may give both the same extranonce1 and job: they must not find the same shares."""
    store = store_in(tmp_path)
    node = NodeConfig(name="first", url="http://127.0.0.1:1", user="u", password="p")
    pools = [Pool(settings(tmp_path / name, node), store) for name in ("first", "second")]
    first, second = (pool.edge.miners.own.lease(None, 0.0) for pool in pools)
    for pool in pools:
        pool.edge.shares.journal.close()
    store.close()
    assert first != second


async def test_whoever_serves_miners_keeps_shares_where_something_is_signed(tmp_path: Path) -> None:
    """Processes and edges are told by the hub from which difficulty on: they have no key."""
    key = tmp_path / "proof.key"
    make_proof_key(key)
    store = store_in(tmp_path)
    node = NodeConfig(name="first", url="http://127.0.0.1:1", user="u", password="p")
    for name, changes, kept_log2 in (
        ("with", {"proof_key_file": key, "proof_from_log2": DIFFICULTY_LOG2_MIN}, DIFFICULTY_LOG2_MIN),
        ("without", {}, None),
    ):
        pool = Pool(settings(tmp_path / name, node, **changes), store)
        assert pool.books.known().start.kept_log2 == kept_log2
        journal = pool.edge.shares.journal
        assert (None if journal._kept is None else journal._kept[1]) == kept_log2
        journal.close()
    store.close()
