"""Where people pay out at a terminal: settings and books in a directory, a node over HTTP, and a signer."""

import base64
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import trio
from typer.testing import CliRunner, Result

from payouts.book_time import book_time
from payouts.proof.roots import DAY_S, closed, due_day, note
from pool.books.book import bind
from pool.cli.main import app
from pool.regtest.http import HttpServer, Reply
from tests.fixtures.databases import store_in
from tests.histories.proof import KEY, SECRET
from tests.stages.payouts import APPROVER, CREATOR, NOW_S, Regtest, World, world_of
from tests.stages.people import log_in

CAP_SAT = 20_000
PROCESS_S_MAX = 120  # for a loaded machine; a command takes about one


class NodeThatHolds:
    """The embedded node over HTTP, which can stop in a call: before it is carried out, or after."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held: tuple[str, bool] | None = None
        self.says: str | None = None  # to everything that it is to send on
        self.reached = trio.Event()

    def hold(self, method: str, *, carried_out: bool) -> None:
        self._held = (method, carried_out)
        self.reached = trio.Event()

    async def answer(self, body: bytes) -> Reply:
        method = msgspec.json.decode(body)["method"]
        if self.says is not None and method == "sendrawtransaction":
            error = {"code": -26, "message": self.says}
            answer = {"result": None, "error": error, "id": msgspec.json.decode(body)["id"]}
            return Reply(status=500, body=msgspec.json.encode(answer))
        held = self._held if self._held is not None and self._held[0] == method else None
        if held == (method, False):
            await self._stop()
        reply = await self._world.rpc_server.answer(body)
        if held is not None:
            await self._stop()
        return reply

    async def _stop(self) -> None:
        self._held = None
        self.reached.set()
        await trio.sleep_forever()


class Office:
    """A directory with settings, a node, and people at the terminal."""

    def __init__(self, home: Path, world: World, node: NodeThatHolds) -> None:
        self.home = home
        self.world = world
        self.node = node
        self.ann, self.bob = (log_in(world.store, home, name) for name in (CREATOR, APPROVER))

    async def run(self, *args: str, group: str = "payout") -> Result:
        """A command, in this process: exit code, output and errors."""
        words = [*group.split(), *args, "-c", str(self.home / "angara.toml")]
        return await trio.to_thread.run_sync(partial(CliRunner().invoke, app, words))

    async def good(self, *args: str, group: str = "payout") -> str:
        """A command that works: what it says."""
        result = await self.run(*args, group=group)
        assert result.exit_code == 0, result.output
        return result.stdout

    async def mistake(self, *args: str, code: int = 2, group: str = "payout") -> str:
        """A command that does not: its words, and nothing that looks like a program's."""
        result = await self.run(*args, group=group)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        assert result.stderr
        return result.stderr

    async def kill(self, *args: str) -> None:
        """A command as a process of its own, killed while the node holds its call."""
        command = "from pool.cli.main import main; main()"
        config = str(self.home / "angara.toml")
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", command, "payout", *args, "-c", config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with trio.fail_after(PROCESS_S_MAX):
                await self.node.reached.wait()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                assert await process.wait() == -signal.SIGKILL

    async def sign(self, batch: str = "1") -> Path:
        """What the signer makes of the exported file."""
        file = self.home / "given.psbt"
        await self.good("export", batch, "--out", str(file), *self.ann)
        back = self.home / "signed.psbt"
        back.write_bytes(self.world.signer.sign(base64.b64decode(file.read_text())))
        return back

    async def approve(self) -> None:
        digest = self.world.batch().digest
        await self.good("approve", "1", "--digest", digest, "--fee-cap-sat", str(CAP_SAT), *self.bob)


@asynccontextmanager
async def office(regtest: Regtest, home: Path) -> AsyncIterator[Office]:
    data_dir = home / "data"
    data_dir.mkdir()
    store = store_in(data_dir)
    bind(store, "regtest")
    async with world_of(regtest, store) as world, trio.open_nursery() as nursery:
        node = NodeThatHolds(world)
        server = HttpServer(node.answer, b"u:p", nursery.cancel_scope.cancel)
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, server.serve, listeners)
        (home / "angara.toml").write_text(world.settings_at(listeners[0].socket.getsockname()[1]))
        yield Office(home, world, node)
        nursery.cancel_scope.cancel()
    world.store.close()


def close_the_day(it: Office, after: int = 1) -> None:
    """As a pool with the key does, which runs."""
    (it.home / "proof.key").write_text(SECRET.hex())
    (it.home / "proof.key").chmod(0o600)
    settings = it.home / "angara.toml"
    if "[proof]" not in settings.read_text():
        settings.write_text(f'{settings.read_text()}\n[proof]\nkey_file = "proof.key"\n')
    with it.world.store.write() as connection:
        book_time(connection, (NOW_S // DAY_S + after) * DAY_S + 5)
        day = due_day(connection)
        assert day is not None
        assert note(connection, closed(connection, KEY, day))
