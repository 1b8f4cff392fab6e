"""A line between an edge and a NATS server that can be cut: nothing passes then, and nobody is told.

What was under way waits, as TCP's own packets would, and passes when the line is mended, if the two ends
still want it.

Must not know: what is said.
"""

from typing import Final

import trio

CHUNK_BYTES: Final = 64 << 10
CONNECTIONS_MAX: Final = 64  # an edge has one; while the line is cut it tries again every few seconds
CONNECT_S: Final = 10.0


class Relay:
    """To one server of this host. `port` is known when `run` has started."""

    def __init__(self, to_port: int) -> None:
        self.port = 0
        self._to_port = to_port
        self._whole = trio.Event()
        self._whole.set()
        self._connections = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._carry, listeners)

    def cut(self) -> None:
        self._whole = trio.Event()

    def mend(self) -> None:
        self._whole.set()

    async def _carry(self, edge: trio.SocketStream) -> None:
        async with edge:
            if self._connections >= CONNECTIONS_MAX:
                return
            self._connections += 1
            try:
                await self._whole.wait()
                with trio.move_on_after(CONNECT_S) as late:
                    server = await trio.open_tcp_stream("127.0.0.1", self._to_port)
                if not late.cancelled_caught:
                    await self._both_ways(edge, server)
            except OSError:
                pass  # no server there: the edge tries again
            finally:
                self._connections -= 1

    async def _both_ways(self, edge: trio.SocketStream, server: trio.SocketStream) -> None:
        """Until one of them has nothing more to say."""
        async with server, trio.open_nursery() as nursery:

            async def pass_on(source: trio.SocketStream, target: trio.SocketStream) -> None:
                try:
                    while chunk := await source.receive_some(CHUNK_BYTES):
                        await self._whole.wait()
                        await target.send_all(chunk)
                    await self._whole.wait()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(pass_on, edge, server)
            nursery.start_soon(pass_on, server, edge)
