"""Found blocks: what is submitted, that it is in its file before, and what is done with each node's word."""

import errno
import os
import stat
import struct
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import structlog
import trio
import trio.testing
from bitcoin.core import CBlock, CTransaction

import pool.chain.blocks
from pool.chain.block_files import note_of
from pool.chain.blocks import (
    DISK_TIMEOUT_S,
    RETRY_AFTER_SUCCESS_S,
    RETRY_MAX_S,
    RETRY_MIN_S,
    RETRY_TOTAL_S,
    STALE_BLOCKS,
    BlockResult,
    BlockSubmitter,
    SubmitState,
    assemble_block,
)
from pool.chain.nodes import Node
from pool.chain.templates import parse_template, sha256d
from stratum.job import Solution
from tests.fakes.bitcoinds import (
    FakeBitcoind,
    Fault,
    answers_401,
    answers_503,
    closes_the_connection,
    never_answers,
    refuses_connections,
    template_result,
    truncates_json,
    warms_up,
)
from tests.fakes.threads import all_taken
from tests.histories.solving import a_solution, hash_hex, solve, template_of, work_on

Clock = trio.testing.MockClock


class Submission:
    """A submitter in front of fakes, at a height that the test may move."""

    def __init__(self, data_dir: Path, *fakes: FakeBitcoind) -> None:
        self.tip_height = 100
        self.directory = data_dir / "blocks"
        self.fakes = fakes
        self.submitter = BlockSubmitter(
            [Node(fake.config, transport=fake) for fake in fakes],
            data_dir,
            tip_height=lambda: self.tip_height,
        )

    async def resubmit(self) -> tuple[BlockResult, ...]:
        """As at a start."""
        return await self.submitter.resubmit_pending(await self.submitter.stored())

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())

    def leave_pending(self, solution: Solution) -> None:
        """The file of a block that an earlier run stored and never got an answer for."""
        template = template_of(solution)
        self.directory.mkdir(exist_ok=True)
        path = self.directory / f"{template.height}-{hash_hex(solution)}.blk"
        path.write_bytes(assemble_block(solution, template).whole)


# What a block is made of


def transactions(count: int) -> list[dict[str, Any]]:
    """Transactions that parse, each with a witness of its own."""
    entries = []
    for number in range(count):
        plain = struct.pack("<i", 2) + b"\x01" + bytes([number]) * 32 + bytes(4) + b"\x00" + bytes(4)
        plain += b"\x01" + struct.pack("<q", 1000) + b"\x01\x51" + bytes(4)
        witnessed = plain[:4] + b"\x00\x01" + plain[4:-4] + b"\x01\x01" + bytes([number]) + plain[-4:]
        txid = sha256d(plain)[::-1].hex()
        entries.append(
            {"data": witnessed.hex(), "txid": txid, "hash": sha256d(witnessed)[::-1].hex(), "fee": 5}
        )
    return entries


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_a_block_is_header_count_coinbase_and_transactions(count: int) -> None:
    entries = transactions(count)
    solution = a_solution(transactions=entries)
    template = template_of(solution)
    data = assemble_block(solution, template).whole
    block = CBlock.deserialize(data)
    assert bytes(block.GetHash()) == solution.hash_internal
    assert block.hashMerkleRoot == block.calc_merkle_root()
    assert (block.nTime, block.nNonce, block.nVersion) == (solution.ntime, solution.nonce, solution.version)
    assert bytes(block.hashPrevBlock) == template.prevhash_internal
    assert [tx.serialize().hex() for tx in block.vtx[1:]] == [entry["data"] for entry in entries]
    coinbase = block.vtx[0]
    assert coinbase.GetTxid() == CTransaction.deserialize(solution.coinbase).GetTxid()
    assert [bytes(item) for item in coinbase.wit.vtxinwit[0].scriptWitness] == [bytes(32)]
    assert block.serialize() == data


def test_without_a_commitment_the_coinbase_has_no_witness() -> None:
    solution = a_solution(default_witness_commitment=None)
    template = template_of(solution)
    assert assemble_block(solution, template).whole[81:] == solution.coinbase


def test_rolled_version_bits_and_time_are_those_that_were_hashed() -> None:
    work = work_on(parse_template(template_result()))
    solution = solve(work, version=work.version | 0x1FFFE000, ntime=work.ntime + 7)
    template = template_of(solution)
    block = CBlock.deserialize(assemble_block(solution, template).whole)
    assert bytes(block.GetHash()) == solution.hash_internal
    assert block.nVersion == 0x3FFFE000
    assert block.nTime == work.ntime + 7


def test_a_block_of_more_than_252_transactions_has_a_longer_count() -> None:
    entries = transactions(250) * 2
    solution = a_solution(transactions=entries)
    template = template_of(solution)
    assert assemble_block(solution, template).whole[80:83] == b"\xfd" + struct.pack("<H", 501)


async def test_work_that_is_not_from_a_template_is_a_bug(tmp_path: Path) -> None:
    solution = a_solution()
    job = msgspec.structs.replace(solution.job, work=msgspec.structs.replace(solution.job.work, origin=None))
    with pytest.raises(TypeError, match="not made from a template"):
        await Submission(tmp_path).submitter.submit(msgspec.structs.replace(solution, job=job))


# In its file first


async def test_a_block_is_in_its_file_before_anybody_gets_it_and_is_synced_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill at any time leaves a whole file of what a node may have; the disk holds up nobody."""
    submitted = threading.Event()
    synced: list[str] = []
    real_fsync = os.fsync

    def waiting_fsync(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        if kind == "file":
            assert submitted.wait(60), "the node waits for the disk"
        synced.append(f"{kind} {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        real_fsync(descriptor)

    class NodeThatLooks(FakeBitcoind):
        async def _submitblock(self, block_hex: str) -> str | None:
            (path,) = (tmp_path / "blocks").glob("*.blk")
            assert path.read_bytes().hex() == block_hex
            submitted.set()
            return await super()._submitblock(block_hex)

    monkeypatch.setattr(os, "fsync", waiting_fsync)
    submission = Submission(tmp_path, NodeThatLooks())
    solution, stored = a_solution(), list[list[str]]()
    result = await submission.submitter.submit(solution, on_stored=lambda: stored.append(list(synced)))
    name = f"101-{hash_hex(solution)}"
    assert stored == [[f"directory {tmp_path.name}", f"file {name}.blk", "directory blocks"]]
    assert result.stored
    assert submission.files() == [f"{name}.accepted"]


def fails_to_sync(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


async def test_a_full_disk_is_an_alarm_and_the_block_is_submitted_all_the_same(
    tmp_path: Path,
) -> None:
    fake = FakeBitcoind()
    submission = Submission(tmp_path, fake)
    submission.directory.mkdir()
    solution = a_solution()
    (submission.directory / f"101-{hash_hex(solution)}.blk").symlink_to("/dev/full")
    with structlog.testing.capture_logs() as logs:
        result = await submission.submitter.submit(solution)
    assert result.state is SubmitState.ACCEPTED
    assert not result.stored
    assert "submitblock" in fake.methods()
    alarm = next(entry for entry in logs if entry["event"] == "block_not_stored")
    assert alarm["log_level"] == "error"
    assert "No space left" in alarm["reason"]
    assert submission.files() == []  # half a block would be taken for a pending one


async def test_a_host_without_a_thread_for_its_file_is_an_alarm_and_the_block_is_submitted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_left(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", none_left)
    with structlog.testing.capture_logs() as logs:
        result = await Submission(tmp_path, FakeBitcoind()).submitter.submit(a_solution())
    assert (result.state, result.stored) == (SubmitState.ACCEPTED, False)
    assert "block_not_stored" in [entry["event"] for entry in logs]


async def test_its_file_waits_for_no_thread_that_others_have(tmp_path: Path) -> None:
    all_taken()
    result = await Submission(tmp_path, FakeBitcoind()).submitter.submit(a_solution())
    assert (result.state, result.stored) == (SubmitState.ACCEPTED, True)


async def test_a_block_that_a_node_may_have_stays_in_its_file_though_the_disk_cannot_sync_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool whose disk fails ends: the file is all that its next start, and so the books, know of it."""
    fake = FakeBitcoind()
    submission = Submission(tmp_path, fake)
    submission.directory.mkdir()
    solution = a_solution()
    with monkeypatch.context() as broken, structlog.testing.capture_logs() as logs:
        broken.setattr(os, "fsync", fails_to_sync)
        result = await submission.submitter.submit(solution, b"a note")
    assert (result.state, result.stored) == (SubmitState.ACCEPTED, False)
    assert "block_not_stored" in [entry["event"] for entry in logs]
    assert submission.files() == [f"101-{hash_hex(solution)}.blk"]
    fake.verdicts = ["duplicate"]
    (again,) = await submission.resubmit()
    assert again.state is SubmitState.DUPLICATE
    name = f"101-{hash_hex(solution)}.accepted"
    assert submission.files() == [name]
    assert note_of(submission.directory / name) == b"a note"


@pytest.mark.parametrize(("hangs", "delay_s"), [("taking it", DISK_TIMEOUT_S), ("syncing it", 0)])
async def test_a_disk_that_hangs_delays_the_block_by_a_second_at_most(
    hangs: str, delay_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    released, submitted = threading.Event(), threading.Event()

    def hang(path: Path, block: bytes, written: Callable[[], None]) -> None:
        if hangs == "syncing it":
            written()
            assert submitted.wait(60), "the node waits for the disk"
        trio.from_thread.run_sync(autojump_clock.jump, DISK_TIMEOUT_S)
        released.wait(60)

    class NodeThatNotes(FakeBitcoind):
        async def _submitblock(self, block_hex: str) -> str | None:
            got_s.append(trio.current_time())
            submitted.set()
            return await super()._submitblock(block_hex)

    monkeypatch.setattr(pool.chain.blocks, "write_durably", hang)
    began_s, got_s = trio.current_time(), list[float]()
    result = await Submission(tmp_path, NodeThatNotes()).submitter.submit(a_solution())
    released.set()
    assert result.state is SubmitState.ACCEPTED
    assert not result.stored
    assert got_s == [pytest.approx(began_s + delay_s)]


async def test_a_stop_in_the_moment_of_a_block_leaves_it_on_disk(tmp_path: Path) -> None:
    fake = FakeBitcoind()
    submission = Submission(tmp_path, fake)
    solution = a_solution()
    with trio.CancelScope() as scope:
        scope.cancel()
        await submission.submitter.submit(solution)
    assert submission.files() == [f"101-{hash_hex(solution)}.blk"]


async def test_a_header_that_hashes_to_something_else_is_an_alarm_and_the_nodes_judge(tmp_path: Path) -> None:
    fake = FakeBitcoind()
    fake.verdicts = ["high-hash"]
    wrong = msgspec.structs.replace(a_solution(), hash_internal=bytes(32))
    with structlog.testing.capture_logs() as logs:
        result = await Submission(tmp_path, fake).submitter.submit(wrong)
    assert result.state is SubmitState.REFUSED
    assert "block_hash_differs" in [entry["event"] for entry in logs]


# Verdicts


@pytest.mark.parametrize(
    ("verdict", "state", "event", "file"),
    [
        (None, SubmitState.ACCEPTED, "block_accepted", "accepted"),
        ("duplicate", SubmitState.DUPLICATE, "block_accepted", "accepted"),
        ("inconclusive", SubmitState.INCONCLUSIVE, "block_inconclusive", "inconclusive"),
        ("duplicate-inconclusive", SubmitState.INCONCLUSIVE, "block_inconclusive", "inconclusive"),
        ("duplicate-invalid", SubmitState.REFUSED, "block_refused", "refused"),
        ("high-hash", SubmitState.REFUSED, "block_refused", "refused"),
        ("", SubmitState.REFUSED, "block_refused", "refused"),
    ],
)
async def test_a_verdict_is_final_logged_and_kept_in_the_name_of_the_file(
    verdict: str | None, state: SubmitState, event: str, file: str, tmp_path: Path
) -> None:
    fake = FakeBitcoind()
    fake.verdicts = [verdict]
    submission = Submission(tmp_path, fake)
    solution = a_solution()
    with structlog.testing.capture_logs() as logs:
        result = await submission.submitter.submit(solution)
    assert (result.height, result.hash_hex, result.state) == (101, hash_hex(solution), state)
    (node_result,) = result.nodes
    assert (node_result.node, node_result.state, node_result.attempts) == ("first", state, 1)
    assert node_result.reason == (verdict if state is SubmitState.REFUSED else "")
    assert fake.methods().count("submitblock") == 1  # never again
    assert [entry["event"] for entry in logs] == ["block_submitted", event]
    assert submission.files() == [f"101-{hash_hex(solution)}.{file}"]


async def test_an_rpc_error_is_a_verdict_too(tmp_path: Path, autojump_clock: Clock) -> None:
    class NodeThatCannotDecode(FakeBitcoind):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            call = msgspec.json.decode(await request.aread())
            self.calls.append((call["method"], call["params"]))
            error = {"code": -22, "message": "Block decode failed"}
            body = msgspec.json.encode({"result": None, "error": error, "id": call["id"]})
            return httpx.Response(500, stream=httpx.ByteStream(body))

    fake = NodeThatCannotDecode()
    submission = Submission(tmp_path, fake)
    submission.leave_pending(a_solution())
    (result,) = await submission.resubmit()
    assert result.state is SubmitState.REFUSED
    assert result.nodes[0].reason == "Block decode failed (-22)"
    assert fake.methods() == ["submitblock"]


async def test_blocks_that_the_disk_does_not_tell_of_are_not_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A start that went on without them would leave them to the next one, when no node takes them."""
    submission = Submission(tmp_path, FakeBitcoind())
    submission.leave_pending(a_solution())

    def not_read(_: Path) -> Any:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    earlier = await submission.submitter.stored()
    with monkeypatch.context() as for_a_moment:
        for name in ("listdir", "scandir"):
            for_a_moment.setattr(os, name, not_read)
        with pytest.raises(PermissionError):
            await submission.submitter.stored()
        with pytest.raises(PermissionError):
            await submission.submitter.resubmit_pending(earlier)
    (result,) = await submission.resubmit()
    assert result.state is SubmitState.ACCEPTED


@pytest.mark.parametrize(
    ("verdict", "preferred"),
    [
        (None, True),
        ("duplicate", True),
        ("inconclusive", True),
        ("high-hash", False),
        ("duplicate-invalid", False),
    ],
)
async def test_preciousblock_follows_success_and_nothing_else(
    verdict: str | None, preferred: bool, tmp_path: Path
) -> None:
    fake = FakeBitcoind()
    fake.verdicts = [verdict]
    solution = a_solution()
    await Submission(tmp_path, fake).submitter.submit(solution)
    assert fake.methods() == ["submitblock", "preciousblock"][: 1 + preferred]
    if preferred:
        assert fake.calls[1] == ("preciousblock", [hash_hex(solution)])


async def test_a_node_that_cannot_prefer_changes_nothing_about_the_result(tmp_path: Path) -> None:
    class NodeWithoutPreciousBlock(FakeBitcoind):
        async def _preciousblock(self, hash_hex: str) -> None:
            self.fault = refuses_connections

    with structlog.testing.capture_logs() as logs:
        result = await Submission(tmp_path, NodeWithoutPreciousBlock()).submitter.submit(a_solution())
    assert result.state is SubmitState.ACCEPTED
    assert logs[-1]["event"] == "block_not_preferred"


# Several nodes


async def test_every_node_gets_the_block_at_the_same_time(tmp_path: Path, autojump_clock: Clock) -> None:
    waiting = 0
    everybody = trio.Event()

    class NodeThatWaitsForTheOthers(FakeBitcoind):
        async def _submitblock(self, block_hex: str) -> str | None:
            nonlocal waiting
            waiting += 1
            if waiting == 3:
                everybody.set()
            await everybody.wait()
            return await super()._submitblock(block_hex)

    fakes = [NodeThatWaitsForTheOthers(name) for name in ("first", "second", "third")]
    submission = Submission(tmp_path, *fakes)
    submission.leave_pending(a_solution())
    (result,) = await submission.resubmit()
    assert [node.state for node in result.nodes] == [SubmitState.ACCEPTED] * 3
    assert len({fake.calls[0][1][0] for fake in fakes}) == 1


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        (["high-hash", None], SubmitState.ACCEPTED),
        (["inconclusive", "duplicate"], SubmitState.DUPLICATE),
        (["high-hash", "inconclusive"], SubmitState.INCONCLUSIVE),
        (["high-hash", "bad-cb-amount"], SubmitState.REFUSED),
    ],
)
async def test_the_result_is_the_best_that_any_node_said(
    verdicts: list[str | None], state: SubmitState, tmp_path: Path
) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    first.verdicts, second.verdicts = verdicts[:1], verdicts[1:]
    result = await Submission(tmp_path, first, second).submitter.submit(a_solution())
    assert result.state is state
    assert [node.node for node in result.nodes] == ["first", "second"]


async def test_once_a_node_has_it_the_others_are_not_waited_for_long(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    first.fault = refuses_connections
    submission = Submission(tmp_path, first, second)
    submission.leave_pending(a_solution())
    began_s = trio.current_time()
    (result,) = await submission.resubmit()
    assert trio.current_time() - began_s <= RETRY_AFTER_SUCCESS_S
    assert result.state is SubmitState.ACCEPTED
    assert [node.state for node in result.nodes] == [SubmitState.UNREACHABLE, SubmitState.ACCEPTED]
    assert submission.files()[0].endswith(".accepted")


# Transport errors


@pytest.mark.parametrize(
    "fault",
    [
        refuses_connections,
        closes_the_connection,
        never_answers,
        answers_401,
        answers_503,
        warms_up,
        truncates_json,
    ],
)
async def test_transport_errors_are_retried_until_the_node_gives_a_verdict(
    fault: Fault, tmp_path: Path, autojump_clock: Clock
) -> None:
    fake = FakeBitcoind()
    tries = 0

    async def fails_four_times(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        if tries == 4:
            fake.fault = None
        return await fault(request)

    fake.fault = fails_four_times
    submission = Submission(tmp_path, fake)
    submission.leave_pending(a_solution())
    with structlog.testing.capture_logs() as logs:
        (result,) = await submission.resubmit()
    assert result.state is SubmitState.ACCEPTED
    assert result.nodes[0].attempts == 5
    assert [entry["event"] for entry in logs].count("block_retried") == 1  # one line an outage


async def test_retries_begin_quickly_and_slow_down_to_a_bound(tmp_path: Path, autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    tried_s: list[float] = []

    async def refuses_and_notes(request: httpx.Request) -> httpx.Response:
        tried_s.append(trio.current_time())
        return await refuses_connections(request)

    fake.fault = refuses_and_notes
    submission = Submission(tmp_path, fake)
    submission.leave_pending(a_solution())
    (result,) = await submission.resubmit()
    waits_s = [after - before for before, after in pairwise(tried_s)]
    assert waits_s[:4] == pytest.approx([RETRY_MIN_S, 0.1, 0.2, 0.4])
    assert max(waits_s) == pytest.approx(RETRY_MAX_S)
    assert tried_s[-1] - tried_s[0] <= RETRY_TOTAL_S
    assert result.state is SubmitState.UNREACHABLE
    assert "cannot connect" in result.nodes[0].reason
    assert submission.files()[0].endswith(".blk")  # for the next start


@pytest.mark.parametrize(("ahead", "retried"), [(STALE_BLOCKS - 1, True), (STALE_BLOCKS, False)])
async def test_a_stale_block_is_not_retried(
    ahead: int, retried: bool, tmp_path: Path, autojump_clock: Clock
) -> None:
    fake = FakeBitcoind()
    fake.fault = refuses_connections
    submission = Submission(tmp_path, fake)
    submission.leave_pending(a_solution())
    submission.tip_height = 101 + ahead
    (result,) = await submission.resubmit()
    assert (result.nodes[0].attempts > 1) == retried
    assert result.state is SubmitState.UNREACHABLE


async def test_a_refusal_does_not_end_the_hope_for_a_node_that_is_away(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    first.verdicts = ["bad-txns-inputs-missingorspent"]
    second.fault = refuses_connections
    submission = Submission(tmp_path, first, second)
    submission.leave_pending(a_solution())
    (result,) = await submission.resubmit()
    assert result.state is SubmitState.REFUSED
    assert submission.files()[0].endswith(".blk")


# After a restart


async def test_blocks_without_a_result_are_submitted_again_the_lowest_first(tmp_path: Path) -> None:
    fake = FakeBitcoind()
    submission = Submission(tmp_path, fake)
    solutions = [a_solution(height=it, previousblockhash=f"{it:064x}") for it in (1000, 99, 101)]
    for solution in solutions:
        submission.leave_pending(solution)
    (submission.directory / f"5-{'0' * 64}.accepted").write_bytes(b"settled")
    (submission.directory / f"6-{'0' * 64}.refused").write_bytes(b"settled")
    (submission.directory / "note-to-self.blk").write_bytes(b"not ours")
    results = await submission.resubmit()
    assert [result.height for result in results] == [99, 101, 1000]
    assert fake.methods().count("submitblock") == 3
    assert [name for name in submission.files() if name.endswith(".blk")] == ["note-to-self.blk"]
    assert await submission.resubmit() == ()


async def test_a_first_start_has_nothing_pending(tmp_path: Path) -> None:
    assert await Submission(tmp_path, FakeBitcoind()).resubmit() == ()


async def test_a_pending_block_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    fake = FakeBitcoind()
    submission = Submission(tmp_path, fake)
    submission.leave_pending(a_solution())
    (submission.directory / f"7-{'0' * 64}.blk").mkdir()
    with structlog.testing.capture_logs() as logs:
        results = await submission.resubmit()
    assert [result.height for result in results] == [101]
    assert logs[0]["event"] == "block_not_read"
