"""What a run of simulated machines has shown, as values: what `angara swarm --json` prints. Latencies are in
milliseconds.

Must not know: how it is shown.
"""

from typing import Any, Final

from pool.swarm.load import Cut, LoadOptions, Measured

Buckets = list[tuple[int, int]]  # so many took up to so many nanoseconds, shortest first

PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
HASHES_OF_DIFFICULTY_1: Final = 2**32 * 65536 / 65535


def spread(buckets: Buckets) -> dict[str, float | int]:
    """Count, percentiles and the longest; exact to 1.6 %."""
    count = sum(number for _, number in buckets)
    told: dict[str, float | int] = {"count": count}
    if count:
        told |= {name: percentile_ms(buckets, share) for name, share in PERCENTILES.items()}
        told["max"] = round(buckets[-1][0] / 1e6, 3)
    return told


def percentile_ms(buckets: Buckets, share: float) -> float:
    """What so large a share of them took at most."""
    rank, seen = share * sum(number for _, number in buckets), 0
    for up_to_ns, number in buckets:
        seen += number
        if seen >= rank:
            return round(up_to_ns / 1e6, 3)
    raise ValueError("a percentile of nothing")


def document(measured: Measured) -> dict[str, Any]:
    """All of it."""
    counted, options = measured.counted, measured.options
    verdicts = counted["verdicts"]
    accepted = sum(by_code.get("accepted", 0) for by_code in verdicts.values())
    cpu_s = measured.cpu_user_s + measured.cpu_system_s
    return {
        "server": f"{options.host}:{options.port}",
        "machines": options.machines,
        "profiles": _profiles(options),
        "arrived": measured.arrived.machines,
        "arrived_after_s": round(measured.arrived.after_s, 3),
        "seconds": round(measured.seconds, 3),
        "interrupted": measured.interrupted,
        "mining_at_the_end": measured.mining,
        "due": counted["due"],
        "submitted": counted["submitted"],
        "accepted": accepted,
        "accepted_per_s": round(accepted / measured.seconds, 1) if measured.seconds else 0.0,
        "verdicts": verdicts,
        "words": counted["words"],
        "not_found": counted["too_dear"],
        "held_back": counted["busy"],
        "unanswered": counted["unanswered"],
        "ack_ms": spread(counted["latency"]),
        "slow_readers_ack_ms": spread(counted["slow_latency"]),
        "found_after_ms": spread(counted["found_after"]),
        "first_job_ms": spread(counted["first_job"]),
        "new_blocks": _blocks(counted["blocks"], measured.mining),
        "new_block_ms": spread(counted["block_delays"]),
        "cuts": [_cut(cut, back_s) for cut, back_s in measured.cuts],
        "connects": counted["connects"],
        "lost": counted["lost"],
        "hashing": _hashing(measured),
        "lines": {
            name: counted[name]
            for name in (
                *("notifies", "notify_bytes", "pings", "bad_lines", "stray_replies"),
                *("reconnects_asked", "reconnects_elsewhere"),
            )
        },
        "client_cpu": {
            "user_s": round(measured.cpu_user_s, 3),
            "system_s": round(measured.cpu_system_s, 3),
            "us_a_share": round(cpu_s / counted["submitted"] * 1e6, 2) if counted["submitted"] else None,
        },
    }


def _profiles(options: LoadOptions) -> dict[str, int]:
    """How many machines speak as each."""
    told = dict.fromkeys(options.profiles, 0)
    for container in range(options.containers):
        told[options.profiles[container % len(options.profiles)]] += options.units
    return told


def _blocks(blocks: list[tuple[int, int]], mining: int) -> dict[str, float | int]:
    """From the first machine with work on a new block to the last. Those that have not reached all that mine
    are counted, and not summed up."""
    lasts = sorted(last_ns for last_ns, reached in blocks if reached >= mining)
    told: dict[str, float | int] = {"count": len(blocks), "reached_all": len(lasts)}
    if lasts:
        told["median_ms"] = round(lasts[len(lasts) // 2] / 1e6, 3)
        told["max_ms"] = round(lasts[-1] / 1e6, 3)
    return told


def _cut(cut: Cut, back_s: float | None) -> dict[str, Any]:
    return {
        "at_s": cut.at_s,
        "for_s": cut.for_s,
        "container": None if cut.container is None else cut.container + 1,
        "all_back_after_s": None if back_s is None else round(back_s, 3),
    }


def _hashing(measured: Measured) -> dict[str, Any]:
    counted = measured.counted
    least, most, seconds = counted["difficulty_least"], counted["difficulty_most"], measured.seconds
    return {
        "difficulty_least": least or None,
        "difficulty_most": most or None,
        "hashes_a_share_least": max(1.0, least * HASHES_OF_DIFFICULTY_1) if least else None,
        "hashes": counted["hashes"],
        "hashes_per_s": round(counted["hashes"] / seconds) if seconds else 0,
        "core_hashes_per_s": round(counted["hashes_per_s"]),
        "of_a_core": measured.options.hashing,
    }
