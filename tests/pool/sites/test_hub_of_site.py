"""What a site knows by itself, whatever the hub says."""

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

import pool.chain.blocks
from payouts.divisions import Header
from payouts.rates import BlockFees, Scheme
from pool.block_submission import BlockSubmission
from pool.books.found_blocks import BlockNote, packed_note
from pool.chain.block_files import blocks_directory, noted
from pool.chain.blocks import BlockResult, BlockSubmitter, SubmitState, assemble_block
from pool.chain.node_set import NodeSet
from pool.chain.templates import parse_template
from pool.hub import FoundBlock, HubAway, Plan
from pool.journal.records import Machine
from pool.sites.hub_of_site import DELIVERS_ALONE_S, HubOfSite
from tests.fakes.bitcoinds import FakeBitcoind, template_result
from tests.fakes.disks import disk_full
from tests.fixtures.no_threads import at_once
from tests.histories.solving import solve, work_on
from tests.pool.sites.test_routes_of_site import order

MACHINE = Machine(
    number=7, tenant_id=1, tenant="acme", container_id=1, container="c01", unit="u1", agent=None
)


class HubThatIsAskedNothing:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"it is asked for {name}")


async def test_fees_of_recent_blocks_wait_for_no_hub(tmp_path: Path) -> None:
    """Each list is another price, by a number that is none of the hub's."""
    hub: Any = HubThatIsAskedNothing()
    site = HubOfSite(hub, Plan({}, {}), epoch=lambda: 1, blocks=tmp_path)
    numbers = [
        await site.fee_basis((BlockFees(height=height, hash="00" * 32, fees_sat=5),)) for height in range(3)
    ]
    assert len(set(numbers)) == 3
    assert min(numbers) >= 1 << 32


class HubThatHearsOfBlocks:
    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    async def unbooked(self, epoch: int, hashes: list[str]) -> list[str]:
        return hashes

    async def found(self, *told: object) -> None:
        self.told.append(told)


@pytest.mark.parametrize(
    ("note", "finder", "scheme"),
    [
        (packed_note(BlockNote(1, MACHINE, Scheme.PPS)), MACHINE, Scheme.PPS),
        (msgspec.json.encode({"process": 1, "finder": MACHINE}), MACHINE, None),  # of a version of before
        (b"", None, None),
    ],
)
async def test_what_a_block_says_of_itself_is_told_with_it(
    tmp_path: Path, note: bytes, finder: Machine | None, scheme: Scheme | None
) -> None:
    hub: Any = HubThatHearsOfBlocks()
    (tmp_path / f"101-{'ab' * 32}.accepted").write_bytes(noted(b"block", note))
    site = HubOfSite(hub, Plan({}, {}), epoch=lambda: 5, blocks=tmp_path)
    await site.book_found_blocks(frozenset({"ab" * 32}))
    assert hub.told == [(5, b"block", finder, scheme)]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (SubmitState.ACCEPTED, True),
        (SubmitState.DUPLICATE, True),
        (SubmitState.INCONCLUSIVE, True),
        (SubmitState.UNREACHABLE, False),
        (SubmitState.REFUSED, False),
    ],
)
async def test_a_block_that_a_node_took_is_told_at_once_whatever_the_disk_makes_of_its_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    state: SubmitState,
    told: bool,
) -> None:
    """One that cannot be read, of a disk that fails or for which a crowd of strangers has left no descriptor,
    kept back all that were found behind it."""

    def fails(_: Path) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    hub: Any = HubThatHearsOfBlocks()
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    monkeypatch.setattr(os, "listdir", fails)
    site = HubOfSite(hub, Plan({}, {}), epoch=lambda: 5, blocks=tmp_path)
    with trio.move_on_after(3_600):
        for number, stored in enumerate((True, False)):
            await site.record_block(
                FoundBlock(
                    result=BlockResult(
                        height=101 + number, hash_hex="ab" * 32, state=state, stored=stored, nodes=()
                    ),
                    income_sat=5,
                    finder=None,
                    solo=None,
                    scheme=None,
                    header=Header(0x207FFFFF, 5),
                    content=b"block %d" % number,
                )
            )
    assert hub.told == ([(5, b"block 0", None, None), (5, b"block 1", None, None)] if told else [])


@pytest.mark.parametrize(("verdict", "told"), [(None, True), ("inconclusive", True), ("bad-prevblk", False)])
@pytest.mark.parametrize(("where", "name"), [(pool.chain.blocks, "write_durably"), (Path, "read_bytes")])
async def test_a_block_that_the_disk_does_not_take_or_give_back_is_told_all_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    where: Any,
    name: str,
    verdict: str | None,
    told: bool,
) -> None:
    """It is in the chain, and pays; without a file it was in no books, for good. And one whose file could not
    be read kept back all that were found behind it."""

    def fails(*_: object) -> None:
        raise disk_full()

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    monkeypatch.setattr(where, name, fails)
    hub, fake, over = HubThatHearsOfBlocks(), FakeBitcoind(), trio.Event()
    fake.verdicts = [verdict]
    nodes = NodeSet([fake.config], chain="regtest", transport=lambda _: fake)
    asked: Any = hub
    submission = BlockSubmission(
        BlockSubmitter(nodes.nodes, tmp_path, tip_height=lambda: 100),
        HubOfSite(asked, Plan({}, {}), epoch=lambda: 5, blocks=blocks_directory(tmp_path)),
        finder=lambda _: MACHINE.unit,
        found_by=lambda _: MACHINE,
        paid_by=lambda *_: Scheme.PPLNS2,
        on_block=lambda _: over.set(),
    )
    template = parse_template(template_result())
    solution = solve(work_on(template))
    async with trio.open_nursery() as nursery:
        await nursery.start(submission.run)
        submission.on_solution(solution)
        with trio.move_on_after(600):
            await over.wait()
        nursery.cancel_scope.cancel()
    whole = assemble_block(solution, template).whole
    assert hub.told == ([(5, whole, MACHINE, Scheme.PPLNS2)] if told else [])


async def test_a_block_that_the_disk_does_not_tell_of_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edge ends, and tells it at its next start."""
    hub: Any = HubThatHearsOfBlocks()
    (tmp_path / f"101-{'ab' * 32}.accepted").write_bytes(b"block")
    site = HubOfSite(hub, Plan({}, {}), epoch=lambda: 5, blocks=tmp_path)

    def not_read(_: Path) -> Any:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, not_read)
    with pytest.raises(PermissionError):
        await site.book_found_blocks(frozenset({"ab" * 32}))


class HubThatIsAway:
    def __init__(self, plan: Plan) -> None:
        self.plan_now, self.away = plan, False

    async def plan(self) -> Plan:
        if self.away:
            raise HubAway("its line is cut")
        return self.plan_now


async def test_who_cuts_the_line_has_no_work_that_is_made_good_to_him_as_well(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Hours of which the books hear too late are made good, and what was done in them is too much later, and
    not billed: the buyer of 23 such hours of a day paid for 9 % of what he had. He has five minutes now."""
    by_the_hour = msgspec.structs.replace(order(2, 5, (8, 0)), by_the_hour=True)
    whole = Plan({}, {1: order(1, 4, (7, 0)), 2: by_the_hour})
    hub: Any = HubThatIsAway(whole)
    site = HubOfSite(hub, whole, epoch=lambda: 1, blocks=tmp_path)
    assert await site.plan() == whole
    for _ in range(3):
        hub.away = True
        await trio.sleep(DELIVERS_ALONE_S - 1)
        assert set((await site.plan()).orders) == {1, 2}
        await trio.sleep(1)
        assert set((await site.plan()).orders) == {1}
        await trio.sleep(86_400)
        assert set((await site.plan()).orders) == {1}
        hub.away = False
        assert await site.plan() == whole


async def test_an_edge_that_begins_without_its_hub_delivers_by_the_hour_for_no_longer(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    whole = Plan({}, {2: msgspec.structs.replace(order(2, 5, (8, 0)), by_the_hour=True)})
    hub: Any = HubThatIsAway(whole)
    hub.away = True
    site = HubOfSite(hub, whole, epoch=lambda: 1, blocks=tmp_path)
    assert await site.plan() == whole
    await trio.sleep(DELIVERS_ALONE_S)
    assert (await site.plan()).orders == {}
