"""python -m pool.cli.edge FD SETTINGS: a process that serves miners for the hub at the other end of FD."""

import signal
import socket
import sys
from pathlib import Path

import trio

from pool.cli.logs import set_up_logs
from pool.edge_process import serve


def main() -> None:
    """Until the link closes. The hub minds signals, also those of a terminal that both have."""
    descriptor, settings = int(sys.argv[1]), Path(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    set_up_logs()
    trio.run(serve, socket.socket(fileno=descriptor), settings)


if __name__ == "__main__":
    main()
