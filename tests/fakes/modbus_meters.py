"""A real Modbus TCP server in a thread: a meter with the registers that a test gives it."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pymodbus.server import ServerStop, StartTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

WAIT_S = 30.0  # for a thread, on a loaded machine


@contextmanager
def modbus_meter(holding: dict[int, Sequence[int]], unit: int = 1) -> Iterator[int]:
    """Its port. `holding` are words by the number of the first."""
    data = [
        SimData(number, values=list(words), datatype=DataType.REGISTERS) for number, words in holding.items()
    ]
    port = _free_port()
    device = SimDevice(id=unit, simdata=data)
    address = ("127.0.0.1", port)
    thread = threading.Thread(target=lambda: StartTcpServer(device, address=address), daemon=True)
    thread.start()
    _until_it_listens(port)
    try:
        yield port
    finally:
        ServerStop()
        thread.join(WAIT_S)


def _free_port() -> int:
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return int(it.getsockname()[1])


def _until_it_listens(port: int) -> None:
    end = time.monotonic() + WAIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
