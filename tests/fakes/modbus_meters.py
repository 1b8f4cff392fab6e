"""A real Modbus TCP server in a thread: a meter with the registers that a test gives it."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pymodbus.server import ServerStop, StartTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.fixtures.held_ports import held_port

WAIT_S = 30.0  # for a thread, on a loaded machine


@contextmanager
def modbus_meter(holding: dict[int, Sequence[int]], unit: int = 1) -> Iterator[int]:
    """Its port. `holding` are words by the number of the first."""
    data = [
        SimData(number, values=list(words), datatype=DataType.REGISTERS) for number, words in holding.items()
    ]
    device = SimDevice(id=unit, simdata=data)
    with held_port() as held:
        address = held.getsockname()
        thread = threading.Thread(target=lambda: StartTcpServer(device, address=address), daemon=True)
        thread.start()
        _until_it_listens(address[1])
        try:
            yield address[1]
        finally:
            ServerStop()
            thread.join(WAIT_S)


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
