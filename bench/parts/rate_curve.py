"""How latency and processor a share go with the rate of shares, which come as chance has it."""

from typing import Any, Final

from bench.curves import curves
from bench.part import Part, Section, picture, table
from bench.servers import load_measured, pool

SESSIONS: Final = 5_600
RATES: Final = (500, 1_000, 3_700, 10_000, 20_000, 30_000)
# A machine's first two shares are read in turns, which at the highest rate are a backlog of seconds.
WARMUP_S, SECONDS = 12.0, 10.0
PERCENTILES: Final = {"p50": "p50", "p99": "p99", "p999": "p99.9", "max": "max"}


def run() -> dict[str, Any]:
    runs = []
    with pool() as server:
        for rate in RATES:
            loaded = load_measured(server, SESSIONS, "--rate", rate, warmup_s=WARMUP_S, seconds=SECONDS)
            told = {"ack_ms": loaded.report["ack_ms"], "us_a_share": round(loaded.us_a_share, 2)}
            runs.append({"rate": rate, "per_s": loaded.report["accepted_per_s"]} | told)
    return {"sessions": SESSIONS, "runs": runs}


def section(result: dict[str, Any]) -> Section:
    runs = result["runs"]
    latencies = {
        words: [(it["rate"], it["ack_ms"][name]) for it in runs] for name, words in PERCENTILES.items()
    }
    rows = [
        [
            f"{it['rate']:,}",
            f"{it['per_s']:,.0f}",
            *(f"{it['ack_ms'][name]:.1f}" for name in PERCENTILES),
            f"{it['us_a_share']:.1f}",
        ]
        for it in runs
    ]
    heads = (
        "shares a second",
        "accepted",
        *(f"{it}, ms" for it in PERCENTILES.values()),
        "processor a share, us",
    )
    return Section(
        (
            f"{result['sessions']:,} machines, {SECONDS:.0f} s each, with nothing beside them.\n",
            *table(heads, rows),
            "",
            picture("rate-latency.svg", "latency against rate"),
        ),
        {"rate-latency.svg": curves("share to answer", "shares a second", "milliseconds", latencies)},
    )


PART: Final = Part(title="Latency against rate", seconds=150, run=run, section=section)
