"""What one server does at most, and for how much processor: each machine has one share under way, always."""

from contextlib import ExitStack
from typing import Any, Final

from bench.curves import curves
from bench.part import Part, Section, picture, table
from bench.parts.engine import us_in_use
from bench.servers import Server, echo, load_measured, pool, trio_server

SESSIONS: Final = (400, 1_000, 5_600, 16_000, 19_000)
# Of the pool. Many sessions have to be told from newcomers first, whose first shares are read in turns; and
# what comes once a minute, a fold above all, has its part in half a minute, and not in five seconds.
WARMUP_S: Final = {400: 1.5, 1_000: 1.5, 5_600: 10.0, 16_000: 30.0, 19_000: 35.0}
SECONDS: Final = {400: 5.0, 1_000: 10.0, 5_600: 30.0, 16_000: 30.0, 19_000: 30.0}
COMPARED_WARMUP_S, COMPARED_SECONDS = 1.5, 5.0  # of the others, which have no newcomers and no folds
BRANCHES, AT_ONCE = 12, 256  # of the pool's jobs, and the shares that it judges in one go
WORDS: Final = {
    "echo": "C++, a send a line",
    "pool": "the pool",
    "trio": "Trio, a task a connection",
    "hashlib": "the same with hashlib",
}


def run() -> dict[str, Any]:
    with ExitStack() as stack:
        # All are there at once, and loaded one after the other: an idle one costs nothing.
        servers: dict[str, Server] = {
            "echo": stack.enter_context(echo()),
            "pool": stack.enter_context(pool()),
            "trio": stack.enter_context(trio_server("answers")),
            "hashlib": stack.enter_context(trio_server("hashes")),
        }
        runs = [
            {"sessions": sessions, "server": name} | _loaded(server, sessions, name == "pool")
            for sessions in SESSIONS
            for name, server in servers.items()
        ]
    return {"runs": runs, "judging_us": round(us_in_use(BRANCHES, AT_ONCE), 2)}


def _loaded(server: Server, sessions: int, is_pool: bool) -> dict[str, Any]:
    warmup_s = WARMUP_S[sessions] if is_pool else COMPARED_WARMUP_S
    seconds = SECONDS[sessions] if is_pool else COMPARED_SECONDS
    loaded = load_measured(server, sessions, "--closed-loop", warmup_s=warmup_s, seconds=seconds)
    report = loaded.report
    return {
        "seconds": report["seconds"],
        "per_s": report["accepted_per_s"],
        "us_a_share": round(loaded.us_a_share, 2),
        "ack_ms": report["ack_ms"],
        "client_us_a_share": report["client_cpu"]["us_a_share"],
    }


def of(result: dict[str, Any], server: str, what: str) -> dict[int, float]:
    """One figure of one server, by sessions."""
    return {it["sessions"]: it[what] for it in result["runs"] if it["server"] == server}


def ratios(result: dict[str, Any], server: str, what: str) -> dict[int, float]:
    """Against the server that only answers."""
    echoed = of(result, "echo", what)
    return {sessions: value / echoed[sessions] for sessions, value in of(result, server, what).items()}


def least(result: dict[str, Any]) -> dict[int, float]:
    """What a server that answers and judges, and does nothing else, would take: against one that answers."""
    echoed = of(result, "echo", "us_a_share")
    return {sessions: 1 + result["judging_us"] / us for sessions, us in echoed.items()}


def section(result: dict[str, Any]) -> Section:
    sessions = list(of(result, "echo", "per_s"))
    heads = ("", *(f"{it:,} sessions" for it in sessions))

    def rows(what: str, digits: str) -> list[list[object]]:
        return [
            [WORDS[it], *(digits.format(value) for value in of(result, it, what).values())] for it in WORDS
        ]

    compared = [
        [
            f"processor a share: {WORDS[it]}",
            *(f"{value:.2f}" for value in ratios(result, it, "us_a_share").values()),
        ]
        for it in ("pool", "trio", "hashlib")
    ] + [
        [
            f"C++, a send a line, and the engine's {result['judging_us']:.1f} us to judge it",
            *(f"{it:.2f}" for it in least(result).values()),
        ],
        ["shares a second: the pool", *(f"{it:.2f}" for it in ratios(result, "pool", "per_s").values())],
    ]
    cpu = {WORDS[it]: list(of(result, it, "us_a_share").items()) for it in WORDS}
    per_s = {WORDS[it]: list(of(result, it, "per_s").items()) for it in WORDS}
    return Section(
        (
            "Each machine has one share under way, always. The pool was measured for "
            f"{' / '.join(f'{it:.0f}' for it in of(result, 'pool', 'seconds').values())} s, the others for "
            f"{COMPARED_SECONDS:.0f} s; it folds once a minute. Ratios to the C++ "
            "server that only answers:\n",
            *table(heads, compared),
            "\nServer processor a share, microseconds:\n",
            *table(heads, rows("us_a_share", "{:.1f}")),
            "\nAccepted shares a second; the client, on the other core, bounds those that are fast:\n",
            *table(heads, rows("per_s", "{:,.0f}")),
            "",
            picture("rates-cpu.svg", "processor a share against sessions"),
            picture("rates-per-s.svg", "shares a second against sessions"),
        ),
        {
            "rates-cpu.svg": curves("server processor a share", "sessions", "microseconds", cpu),
            "rates-per-s.svg": curves("accepted shares", "sessions", "a second", per_s),
        },
    )


PART: Final = Part(title="Rates, and processor a share", seconds=400, run=run, section=section)
