"""The line between two hosts, as a test cuts it."""

from collections.abc import Awaitable, Callable

import trio


class Line:
    """Of TCP, from a port of ours to one of somebody's. `cut`: every connection ends, and no other one comes.
    `silent`: nothing comes through any more, and nobody is told."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._connections: set[trio.CancelScope] = set()
        self._whole, self._speaks = True, trio.Event()
        self._speaks.set()
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._carry, [listener])

    def cut(self) -> None:
        self._whole = False
        for it in list(self._connections):
            it.cancel()

    def silent(self) -> None:
        self._speaks = trio.Event()

    def heal(self) -> None:
        self._whole = True
        self._speaks.set()

    async def _carry(self, ours: trio.SocketStream) -> None:
        if not self._whole:
            await trio.aclose_forcefully(ours)
            return
        with trio.CancelScope() as scope:
            self._connections.add(scope)
            try:
                async with (
                    await trio.open_tcp_stream("127.0.0.1", self._to_port) as theirs,
                    trio.open_nursery() as both,
                ):
                    both.start_soon(self._copy, ours, theirs.send_all, scope)
                    both.start_soon(self._copy, theirs, ours.send_all, scope)
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                self._connections.discard(scope)
        await trio.aclose_forcefully(ours)

    async def _copy(
        self,
        of: trio.SocketStream,
        give: Callable[[bytes], Awaitable[None]],
        scope: trio.CancelScope,
    ) -> None:
        async for data in of:
            await self._speaks.wait()
            await give(bytes(data))
        scope.cancel()
