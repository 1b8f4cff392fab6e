"""python -m pool.cli.edge NUMBER FD SETTINGS: who serves miners for the hub at the other end of FD.

NUMBER says which of several it is, to who reads a list of processes or the log.
"""

import signal
import socket
import sys
from pathlib import Path

from pool import short_start


def main() -> None:
    """Until the link closes. The hub minds signals, also those of a terminal that both have."""
    for minded in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(minded, signal.SIG_IGN)
    short_start.begin()
    import trio

    from pool.cli.logs import set_up_logs
    from pool.edge_process import serve

    number, descriptor, settings = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    set_up_logs(process=number)
    short_start.begun()
    trio.run(serve, socket.socket(fileno=descriptor), settings)


if __name__ == "__main__":
    main()
