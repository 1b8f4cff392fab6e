"""`angara demo` as a newcomer runs it: it mines blocks, stops at a signal, and goes on where it was."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import pytest

from tests.stratum_harness import Miner, accepted, connect

PATIENCE_S = 120  # a safety net; nothing is measured with it


class Demo:
    """A running demo, and what it says on its two outputs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._lines: Queue[str | None] = Queue()
        for stream in (process.stdout, process.stderr):
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        self.said = ""

    def _read(self, stream: Iterator[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def hears(self, pattern: str) -> str:
        """The first group of the next line that matches."""
        ends = 0
        while ends < 2:
            line = self._lines.get(timeout=PATIENCE_S)
            ends += line is None
            self.said += line or ""
            if line is not None and (found := re.search(pattern, line)):
                return found[1]
        raise AssertionError(f"it never said {pattern}, but:\n{self.said}")

    def ends(self) -> int:
        """Its exit code."""
        code = self.process.wait(PATIENCE_S)
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            self.said += line
        assert "Traceback" not in self.said
        return code

    @property
    def port(self) -> int:
        return int(self.hears(r"port=(\d+) .*event=listening"))


@contextmanager
def demo(data_dir: Path, *options: str) -> Iterator[Demo]:
    arguments = [
        sys.executable,
        "-c",
        "from pool.cli import main; main()",
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


def group_is_gone(process: "subprocess.Popen[str]") -> bool:
    """Whether nothing of the session that the process began is left."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_demo_mines_three_blocks_and_goes_on_with_the_same_chain(tmp_path: Path) -> None:
    with demo(tmp_path, "--blocks", "3") as first:
        first.hears(r"(event=new_tip)")
        with demo(tmp_path) as second:
            assert second.ends() == 2
            assert "another process is using" in second.said
        assert first.ends() == 0
        assert "miners connect to stratum+tcp://127.0.0.1:" in first.said
        summary = re.search(r"^3 blocks accepted; height (\d+), hash ([0-9a-f]{64})$", first.said, re.M)
        assert summary, first.said
    assert int(summary[1]) >= 3
    kept = sorted(path.name for path in (tmp_path / "blocks").iterdir())
    assert [name for name in kept if name.endswith(".accepted")], kept
    with demo(tmp_path, "--no-fleet") as again:
        tip = again.hears(r"(.*event=new_tip.*)")
        assert summary[2] in tip
        assert f"height={summary[1]}" in tip


@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGTERM, "event=block_found"), (signal.SIGINT, "event=new_tip")]
)
def test_signal_ends_the_demo_and_leaves_nothing(number: signal.Signals, after: str, tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.hears(f"({after})")
        running.process.send_signal(number)
        assert running.ends() == 0
        assert group_is_gone(running.process)
    assert not (tmp_path / "node" / ".cookie").exists()


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
    with demo(tmp_path, *options) as again:
        miner = await mining(again.port)
        assert miner.job[0] != job[0]
        late = await miner.call("mining.submit", *share)
        assert late["error"][0] == 21, "a share of an earlier run is no share"
        await miner.close()
