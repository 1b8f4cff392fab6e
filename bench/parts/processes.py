"""What a share costs where several processes serve miners, beside one process in the same run."""

from typing import Any, Final

from bench.part import Part, Section, table
from bench.servers import load_measured, pool

SESSIONS: Final = (1_000, 5_600)
PROCESSES: Final = (1, 2)
# Newcomers' first shares are read in turns; a fold comes once a minute, so each has one in what is measured.
WARMUP_S: Final = 10.0
SECONDS: Final = 60.0


def run() -> dict[str, Any]:
    runs = []
    for processes in PROCESSES:
        with pool(processes=processes) as server:
            for sessions in SESSIONS:
                loaded = load_measured(server, sessions, "--closed-loop", warmup_s=WARMUP_S, seconds=SECONDS)
                runs.append(
                    {
                        "processes": processes,
                        "sessions": sessions,
                        "us_a_share": round(loaded.us_a_share, 2),
                        "per_s": loaded.report["accepted_per_s"],
                        "ack_ms": loaded.report["ack_ms"],
                    }
                )
    return {"runs": runs}


def ratios(result: dict[str, Any]) -> dict[int, float]:
    """Processor a share of two processes to that of one, by sessions."""
    found = {(it["processes"], it["sessions"]): it["us_a_share"] for it in result["runs"]}
    return {it: found[2, it] / found[1, it] for it in SESSIONS}


def section(result: dict[str, Any]) -> Section:
    rows = [
        [
            it["processes"],
            f"{it['sessions']:,}",
            f"{it['us_a_share']:.1f}",
            f"{it['per_s']:,.0f}",
            f"{it['ack_ms']['p50']:.0f}",
            f"{it['ack_ms']['p99']:.0f}",
        ]
        for it in result["runs"]
    ]
    said = ", ".join(f"{ratio:.2f} at {sessions:,} sessions" for sessions, ratio in ratios(result).items())
    return Section(
        (
            "Processor a share of two processes, with the one that has the books, to that of one process: "
            f"{said}. Each machine has one share under way, always, for {SECONDS:.0f} s; the load is on the "
            "same two cores, so shares a second say what it leaves of them.\n",
            *table(
                ("processes", "sessions", "us a share", "shares a second", "p50, ms", "p99, ms"),
                rows,
            ),
            "\nWhat limits it: a commit costs the same whatever is in it, and two processes with half of the "
            "machines each make twice as many. What was tried is in decision 014 of docs/decisions.",
        ),
        {},
    )


PART: Final = Part(title="Several processes", seconds=320, run=run, section=section)
