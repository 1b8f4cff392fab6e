"""The APIs of simulated machines on streams: cgminer's, HTTP and Whatsminers' v3 at one port, told apart by
the first bytes.

Must not know: what is answered (`machine_api` does), and where the stream comes from.
"""

import json
import random
from typing import Final

import h11
import trio

from pool.swarm.machine_api import MachineApi, Temper

REQUEST_BYTES_MAX: Final = 64 << 10
RECEIVE_BYTES: Final = 16 << 10
REQUEST_S: Final = 10.0  # as Whatsminers have it
LATE_S: Final = 20.0  # as Antminers of 2022 write their settings
GARBAGE_BYTES: Final = 2_000
ENDLESS: Final = b'{"STATUS":[' + b'{"STATUS":"S"},' * 1_000


async def answer_stream(machine: MachineApi, stream: trio.abc.Stream, noise: random.Random) -> None:
    """One connection, to its end."""
    async with stream:
        try:
            answer = b""
            with trio.move_on_after(REQUEST_S):
                first = bytes(await stream.receive_some(RECEIVE_BYTES))
                if not first:
                    return
                answer = await _answered(machine, stream, first)
            temper = machine.options.temper
            if temper is Temper.DEAF:
                await trio.sleep_forever()
            if temper is Temper.LATE:
                await trio.sleep(LATE_S)
            if temper is Temper.GARBAGE:
                answer = noise.randbytes(GARBAGE_BYTES)
            while temper is Temper.ENDLESS:
                await stream.send_all(ENDLESS)
            await stream.send_all(answer)
        except (OSError, trio.BrokenResourceError, h11.ProtocolError):
            pass  # it went


async def _answered(machine: MachineApi, stream: trio.abc.Stream, first: bytes) -> bytes:
    if first[:1] == b"{":
        return await _command(machine, stream, bytearray(first))
    if first[3:4] == b"\0":  # no method of HTTP has one: the length of a packet
        return await _packet(machine, stream, bytearray(first))
    return await _request(machine, stream, first)


async def _command(machine: MachineApi, stream: trio.abc.Stream, received: bytearray) -> bytes:
    while True:
        try:
            request = json.loads(received)
            break
        except ValueError:
            data = await stream.receive_some(RECEIVE_BYTES)
            received += data
            if not data or len(received) > REQUEST_BYTES_MAX:
                return b""
    return json.dumps(machine.command(request) if isinstance(request, dict) else {}).encode() + b"\0"


async def _packet(machine: MachineApi, stream: trio.abc.Stream, received: bytearray) -> bytes:
    """Of Whatsminers' API v3: four bytes of length, the low one first, and JSON."""
    length = int.from_bytes(received[:4], "little")
    while len(received) < 4 + length <= REQUEST_BYTES_MAX:
        data = await stream.receive_some(RECEIVE_BYTES)
        received += data
        if not data:
            return b""
    try:
        request = json.loads(received[4 : 4 + length])
    except ValueError:
        return b""
    answer = json.dumps(machine.packet(request) if isinstance(request, dict) else {}).encode()
    return len(answer).to_bytes(4, "little") + answer


async def _request(machine: MachineApi, stream: trio.abc.Stream, first: bytes) -> bytes:
    http = h11.Connection(h11.SERVER)
    http.receive_data(first)
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES)))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data) and len(body) <= REQUEST_BYTES_MAX:
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return b""
    assert head is not None
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers}
    status, more, content = machine.request(head.method.decode(), head.target.decode(), headers, bytes(body))
    response = h11.Response(
        status_code=status, headers=[*more, ("Content-Length", str(len(content))), ("Connection", "close")]
    )
    sent = [http.send(response), http.send(h11.Data(data=content)), http.send(h11.EndOfMessage())]
    return b"".join(it or b"" for it in sent)
