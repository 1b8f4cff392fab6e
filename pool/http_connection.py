"""One connection of HTTP/1.1, and of nothing else, on Hypercorn's state machine of it.

Hypercorn by itself lets whoever connects change to HTTP/2, by `Upgrade: h2c` or by the preface alone, and to
a websocket: a hundred requests at once on one connection, each with its buffers, past every bound that is
counted by connection. Nobody needs that here. An upgrade that is asked for is not taken, as a server may
always do (RFC 9110, 7.8), and the preface of HTTP/2 is a request for nothing that there is.

Nor is a body in chunks taken, as a server may (RFC 9112, 6.3): turns are given by packets and by requests,
and seven hundred chunks are in a packet, each with a round of the loop.

Must not know: who asks, and what for.
"""

from typing import Any, Final, cast

import h11
from hypercorn.events import Closed
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState

CHUNKS: Final = b"transfer-encoding"
NO_LENGTH: Final = b'{"error":"a body says its length first: Content-Length","code":"body"}'


class HttpConnection(TCPServer):
    """To be awaited: serves a stream until either side is done with it."""

    async def run(self) -> None:
        """As Hypercorn's own, without what else a connection may turn into."""
        try:
            async with TaskGroup() as tasks:
                self._task_group = tasks
                state = ConnectionState(self.state)
                self.protocol = cast(
                    Any,
                    _OnlyHttp1(
                        self.app,
                        self.config,
                        self.context,
                        tasks,
                        state,
                        False,
                        None,  # whose address it is knows whoever accepted it
                        None,
                        self.protocol_send,
                    ),
                )
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
                await self.idle_task.stop()  # there is nothing more to be waited for
        except OSError:
            pass  # gone before it was served
        finally:
            await self._close()


class _OnlyHttp1(H11Protocol):
    async def _check_protocol(self, event: h11.Request) -> None:
        """Where Hypercorn changes to HTTP/2."""

    async def _create_stream(self, request: h11.Request) -> None:
        """And where it changes to a websocket: for who asks in these words. Without a stream nothing more is
        read."""
        if any(name.lower() == CHUNKS for name, _ in request.headers):
            length = str(len(NO_LENGTH)).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", length)]
            refused = h11.Response(status_code=411, headers=[*headers, (b"connection", b"close")])
            for event in (refused, h11.Data(data=NO_LENGTH), h11.EndOfMessage()):
                await self._send_h11_event(event)
            await self.send(Closed())
            return
        kept = [(name, value) for name, value in request.headers if name.lower() != b"upgrade"]
        plain = h11.Request(
            method=request.method, target=request.target, headers=kept, http_version=request.http_version
        )
        await super()._create_stream(plain)
