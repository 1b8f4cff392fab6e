"""`angara demo` as a newcomer runs it: it mines blocks, stops at a signal, and goes on where it was."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, suppress
from pathlib import Path
from queue import Queue

import pytest
import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text
from sqlalchemy import func, select

from payouts.audit.verify import audit
from payouts.income import newest_events
from payouts.ledger import PoolAccount, balance_sat
from payouts.rates import subsidy_sat
from payouts.schemas.money import blocks, sibling_blocks
from pool.books.store import open_store
from pool.chain.block_queue import SUBMITTED_MAX
from pool.chain.networks import NETWORKS
from pool.data_dir import database_url
from pool.demo import above
from pool.log_lines import LINES_MAX
from tests.stages.sockets import Miner, accepted, connect, encode

HALVING = NETWORKS["regtest"].halving_interval
PATIENCE_S = 120  # a safety net; nothing is measured with it


class Demo:
    """A running demo, and what it says on its two outputs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._lines: Queue[str | None] = Queue()
        for stream in (process.stdout, process.stderr):
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        self.said, self._ended = "", 0  # outputs

    def _read(self, stream: Iterator[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def hears(self, pattern: str) -> str:
        """The first group of the next line that matches."""
        for line in self._next_lines():
            if found := re.search(pattern, line):
                return found[1]
        raise AssertionError(f"it never said {pattern}, but:\n{self.said}")

    def ends(self) -> int:
        """Its exit code."""
        code = self.process.wait(PATIENCE_S)
        for _ in self._next_lines():
            pass
        assert "Traceback" not in self.said
        return code

    def _next_lines(self) -> Iterator[str]:
        """To the end of both outputs, whichever is read sooner."""
        while self._ended < 2:
            if (line := self._lines.get(timeout=PATIENCE_S)) is None:
                self._ended += 1
            else:
                self.said += line
                yield line

    @property
    def port(self) -> int:
        return int(self.hears(r"port=(\d+) .*event=listening"))


@contextmanager
def demo(data_dir: Path, *options: str) -> Iterator[Demo]:
    arguments = [
        sys.executable,
        "-c",
        "from pool.cli.main import main; main()",
        "demo",
        "--stratum",
        "127.0.0.1:0",
        "--data-dir",
        str(data_dir),
        *options,
    ]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield Demo(process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def assert_nothing_is_left(ended: Demo, data_dir: Path) -> None:
    """Of the session that the process began, and for whoever would speak to its node."""
    with pytest.raises(ProcessLookupError):
        os.killpg(ended.process.pid, 0)
    assert not (data_dir / "node" / ".cookie").exists()


@pytest.mark.long
def test_demo_mines_three_blocks_goes_on_with_the_same_chain_and_leaves_nothing_after_a_signal(
    tmp_path: Path,
) -> None:
    """SIGINT, with its machines at work; SIGTERM is what ends it under any miner, below."""
    with demo(tmp_path, "--blocks", "3") as first:
        assert first.ends() == 0
        assert "miners connect to stratum+tcp://127.0.0.1:" in first.said
        summary = re.search(r"^3 blocks accepted; height (\d+), hash ([0-9a-f]{64})$", first.said, re.M)
        assert summary, first.said
    assert int(summary[1]) >= 3
    kept = sorted(path.name for path in (tmp_path / "blocks").iterdir())
    assert [name for name in kept if name.endswith(".accepted")], kept
    with demo(tmp_path) as again:
        tip = again.hears(r"(.*event=new_tip.*)")
        assert summary[2] in tip
        assert f"height={summary[1]}" in tip
        with demo(tmp_path) as second:
            assert second.ends() == 2
            assert "another process is using" in second.said
        again.process.send_signal(signal.SIGINT)
        assert again.ends() == 0
        assert_nothing_is_left(again, tmp_path)


def solutions(miner: Miner, count: int) -> bytes:
    """Shares on its job; every second one is a block."""
    shares = ((*miner.share()[:3], miner.job[7], f"{nonce:08x}") for nonce in range(count))
    return b"".join(encode(1, "mining.submit", *share) for share in shares)


async def test_a_machine_that_finds_blocks_at_will_leaves_the_demo_readable_and_its_chain_growing(
    tmp_path: Path,
) -> None:
    """Some hundred solutions at once on every parent, as a miner of a few MH/s has them."""
    burst, blocks_wanted = 400, 6
    with demo(tmp_path, "--no-fleet", "--blocks", str(blocks_wanted)) as running:
        port, sent = running.port, 0
        with suppress(ConnectionRefusedError):  # it has ended
            while True:
                miner = await connect(port, "acme.c01.hand")
                async with miner.stream:
                    with suppress(EOFError, trio.BrokenResourceError):  # or has had enough of us
                        await miner.start()
                        while True:
                            await miner.say(solutions(miner, burst))
                            sent += burst
                            while not (await miner.notified("mining.notify"))[8]:
                                pass
        assert running.ends() == 0
    told = Counter(re.findall(r" event=(\w+)", running.said))
    assert told["new_tip"] >= blocks_wanted
    assert max(told.values()) <= LINES_MAX
    assert running.said.count("\n") < 150
    parents = {path.name.partition("-")[0] for path in (tmp_path / "blocks").iterdir()}
    assert blocks_wanted <= len(parents)
    assert len(list((tmp_path / "blocks").iterdir())) <= SUBMITTED_MAX * len(parents)
    with closing(open_store(database_url(tmp_path))) as store, store.read() as connection:
        assert audit(connection).wrong is None
        newest = newest_events()
        in_chain = connection.scalars(
            select(blocks.c.height)
            .join(newest, newest.c.block_hash == blocks.c.hash)
            .where(newest.c.status == "pending")
        ).all()
        assert 0 < len(in_chain) == len(set(in_chain)), "one of ours on each parent"
        income_sat = balance_sat(connection, PoolAccount.BLOCK_INCOME_PENDING.value)
        assert income_sat == sum(subsidy_sat(height, HALVING) for height in in_chain)
        siblings = connection.scalar(select(func.sum(sibling_blocks.c.blocks)))
    assert siblings > sent / 20, "or nothing was tried"


def test_what_goes_wrong_is_told_above_the_table() -> None:
    screen, lines = io.StringIO(), io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with redirect_stderr(lines), Live(Text("the table"), console=console, auto_refresh=False) as live:
        live.refresh()
        print("it rains", file=above(console))
        live.refresh()
    assert lines.getvalue() == ""
    assert Text.from_ansi(screen.getvalue().replace("\r", "\n")).plain.splitlines().count("it rains") == 1
    assert screen.getvalue().rstrip().endswith("\x1b[?25h")
    assert "it rains\n" in screen.getvalue().replace("\x1b[0m", "")


async def mining(port: int) -> Miner:
    return await (await connect(port, "acme.c01.hand")).start()


async def test_any_miner_can_connect_and_have_its_shares_accepted(tmp_path: Path) -> None:
    options = ("--no-fleet", "--difficulty", "2^-32", "--network-bits", "1d00ffff", "--template-txs", "20")
    with demo(tmp_path, *options) as running:
        port = running.port
        miner = await mining(port)
        job = miner.job
        assert len(job[4]) == 5, "a merkle branch over twenty transactions"
        assert miner.heard("mining.set_difficulty") == [[2.0**-32]]
        share = (*miner.share(1)[:3], job[7], "00000001")  # at the job's own time
        assert accepted(await miner.call("mining.submit", *share))
        duplicate = await miner.call("mining.submit", *share)
        assert duplicate["error"][0] == 22
        stranger = await connect(port, "stranger.c01.u1")
        await stranger.call("mining.subscribe")
        refused = await stranger.call("mining.authorize", "stranger.c01.u1", "x")
        assert refused["error"][0] == 24
        assert "Unknown tenant stranger" in refused["error"][1]
        await stranger.close()
        running.process.send_signal(signal.SIGTERM)
        assert await miner.line() == b""
        await miner.close()
        assert running.ends() == 0
        assert_nothing_is_left(running, tmp_path)
    with demo(tmp_path, *options) as again:
        miner = await mining(again.port)
        assert miner.job[0] != job[0]
        late = await miner.call("mining.submit", *share)
        assert late["error"][0] == 21, "a share of an earlier run is no share"
        await miner.close()
