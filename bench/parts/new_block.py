"""A new block's work to everybody, beside a bare loop of sends; and everybody back after a power cut."""

import base64
import json
import threading
import urllib.request
from typing import Any, Final

from bench.part import Part, Section, table
from bench.servers import RunningPool, echo, load, pool

SESSIONS: Final = 19_000
AT_ONCE: Final = 50_000  # connects a second: as fast as they can be opened
BLOCK_EVERY_S: Final = 3.0
SECONDS: Final = 25
CUT: Final = "2:2"  # after 2 s, for 2 s
ADDRESS: Final = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"


def run() -> dict[str, Any]:
    options = (SESSIONS, "--rate", 0, "--seconds", SECONDS)
    with echo(BLOCK_EVERY_S) as server:
        bare = load(server.port, *options)["new_blocks"]
    with pool() as server:
        over = threading.Event()
        finding = threading.Thread(target=_find_blocks, args=(server, over))
        finding.start()
        try:
            ours = load(server.port, *options)["new_blocks"]
        finally:
            over.set()
            finding.join()
    with pool() as server:
        cut = load(
            server.port, SESSIONS, "--connect-rate", AT_ONCE, "--rate", 0, "--seconds", 20, "--cut", CUT
        )
    return {
        "sessions": SESSIONS,
        "bare": bare,
        "pool": ours,
        "arrived": cut["arrived"],
        "first_after_s": cut["arrived_after_s"],
        "back_after_s": cut["cuts"][0]["all_back_after_s"],
    }


def _find_blocks(server: RunningPool, over: threading.Event) -> None:
    while not over.wait(BLOCK_EVERY_S):
        call(server, "generatetoaddress", 1, ADDRESS)


def call(server: RunningPool, method: str, *params: object) -> Any:
    """Of the node's JSON-RPC."""
    secret = base64.b64encode(server.cookie.encode()).decode()
    heads = {"Authorization": f"Basic {secret}", "Content-Type": "application/json"}
    body = json.dumps({"id": 1, "method": method, "params": params}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"http://{server.node}/", body, heads)) as answered:
        return json.load(answered)["result"]


def section(result: dict[str, Any]) -> Section:
    bare, ours = result["bare"], result["pool"]
    back_s = result["back_after_s"]
    return Section(
        (
            f"From the first of {result['sessions']:,} machines that has a new block's work to the last, "
            "against a bare loop of as many sends on one core:\n",
            *table(
                ("", "median, ms", "longest, ms", "blocks"),
                (
                    [
                        "ratio",
                        f"{ours['median_ms'] / bare['median_ms']:.2f}",
                        f"{ours['max_ms'] / bare['max_ms']:.2f}",
                        "",
                    ],
                    ["the pool", f"{ours['median_ms']:.0f}", f"{ours['max_ms']:.0f}", ours["reached_all"]],
                    [
                        "a loop of sends",
                        f"{bare['median_ms']:.0f}",
                        f"{bare['max_ms']:.0f}",
                        bare["reached_all"],
                    ],
                ),
            ),
            f"\nAll come at once: the last of {result['arrived']:,} has work after "
            f"{result['first_after_s']:.1f} s; after a power cut of all, "
            + ("not all came back in time." if back_s is None else f"after {back_s:.1f} s."),
        )
    )


PART: Final = Part(title="A new block, and everybody at once", seconds=120, run=run, section=section)
