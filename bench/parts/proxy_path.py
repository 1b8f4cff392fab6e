"""What a proxy costs: machines whose work comes from an upstream, against those of the pool, in turn."""

import json
import statistics
from typing import Any, Final

from bench.part import Part, Section, table
from bench.servers import RunningPool, angara, bare, load, pool, wait_for

SESSIONS: Final = 5_600
ROUNDS: Final = 3
# The upstream's, 128 times our miners': one share in 128 is forwarded, as where the connection of a site that
# is built out is asked for 30 a second.
UPSTREAM_DIFFICULTY_LOG2: Final = -25


def run() -> dict[str, Any]:
    per_s: dict[str, list[float]] = {"pool": [], "proxy": []}
    options = (SESSIONS, "--closed-loop", "--warmup", 2, "--seconds", 6)
    with pool() as own, bare(UPSTREAM_DIFFICULTY_LOG2) as upstream, pool() as proxy:
        _mine_for(upstream.port, proxy)
        for _ in range(ROUNDS):
            per_s["pool"].append(load(own.port, *options)["accepted_per_s"])
            per_s["proxy"].append(load(proxy.port, *options)["accepted_per_s"])
    return {name: statistics.median(it) for name, it in per_s.items()} | {"rounds": ROUNDS}


def _mine_for(upstream: int, server: RunningPool) -> None:
    """Let the tenant's machines mine for the server at this port, as an operator would."""
    to = ("--data-dir", server.directory)
    angara(
        "upstream",
        "add",
        "bench",
        "--endpoint",
        f"stratum+tcp://127.0.0.1:{upstream}",
        *("--user", "site.c01.proxy"),
        *to,
    )
    angara("tenant", "set-terms", "acme", "--scheme", "proxy", "--upstream", "bench", *to)

    def serving() -> bool:
        shown = json.loads(angara("upstream", "show", "bench", "--json", *to))
        return any(it["serving"] for it in shown.get("channels", ()))

    wait_for(serving)


def section(result: dict[str, Any]) -> Section:
    ratio = result["proxy"] / result["pool"]
    return Section(
        (
            f"Closed loop, {SESSIONS:,} machines, medians of {result['rounds']} rounds in turn:\n",
            *table(
                ("", "accepted shares a second"),
                (
                    ["for an upstream, against the pool itself", f"{ratio:.2f}"],
                    ["the pool itself", f"{result['pool']:,.0f}"],
                    ["for an upstream", f"{result['proxy']:,.0f}"],
                ),
            ),
        )
    )


PART: Final = Part(title="Proxy", seconds=110, run=run, section=section)
