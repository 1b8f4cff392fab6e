"""What this is built for: every figure that was promised, what is measured of it, and where it is not
reached, what limits it and what would lift it.

A figure is compared within one run wherever it can be. Must not know: how anything is measured.
"""

import statistics
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bench.parts import kept_shares, rates

Result = dict[str, Any]


class Measured(msgspec.Struct, frozen=True):
    """In words, and whether it is as good as promised."""

    words: str
    reached: bool


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """`limits` is what the report says where it is not reached."""

    what: str
    promised: str
    part: str
    measured: Callable[[Result], Measured]
    limits: str


def _cpu_against_echo(result: Result) -> Measured:
    ratios = rates.ratios(result, "pool", "us_a_share")
    us, least = rates.of(result, "pool", "us_a_share"), rates.least(result)

    def three(figures: dict[int, float], digits: int) -> str:
        return " / ".join(f"{figures[it]:.{digits}f}" for it in (1_000, 5_600, 16_000))

    return Measured(
        f"{three(ratios, 2)} x ({three(us, 1)} us); echo and judging alone are {three(least, 2)} x",
        all(ratios[it] <= 1.25 for it in (1_000, 5_600, 16_000)),
    )


def _rate_against_echo(result: Result) -> Measured:
    ratios, per_s = rates.ratios(result, "pool", "per_s"), rates.of(result, "pool", "per_s")
    words = ", ".join(f"{ratios[it]:.0%} ({per_s[it]:,.0f}) at {it:,}" for it in (1_000, 5_600, 16_000))
    return Measured(words, all(ratios[it] >= 0.9 for it in (1_000, 5_600, 16_000)))


# Server processor a share of ckpool 0.9.9 (a fork of it, at difficulties below 1) against echo's in turn with
# it, by sessions: closed loop, 12 branches, an EPYC with SHA-NI, 2026-11-28. It is not built here.
CKPOOL_OF_ECHO: Final = {1_000: 7.15, 5_600: 5.62, 16_000: 6.03}


def _against_ckpool(result: Result) -> Measured:
    ours = rates.ratios(result, "pool", "us_a_share")
    times = {sessions: it / ours[sessions] for sessions, it in CKPOOL_OF_ECHO.items()}
    words = " / ".join(f"{it:.1f}" for it in times.values())
    reached = min(times.values()) >= 4 and times[16_000] >= 6
    return Measured(f"{words} x at 1,000 / 5,600 / 16,000, by each one's ratio to echo", reached)


def _latency(result: Result) -> Measured:
    ack, synced = result["ack_ms"], result["fsync_ms"]
    names = ("p99", "p999", "max")
    words = " / ".join(f"{ack[it]:.0f}" for it in names)
    beside = " / ".join(f"{synced[it]:.0f}" for it in names)
    reached = all(ack[it] <= most for it, most in zip(names, (25, 60, 250), strict=True))
    return Measured(f"{words} ms (append and sync in the same minutes: {beside} ms)", reached)


def _sessions(result: Result) -> Measured:
    return Measured(f"{result['sessions']:,}", result["sessions"] >= 19_000)


def _memory(result: Result) -> Measured:
    return Measured(f"{result['kib_a_session']:.1f} KiB", result["kib_a_session"] < 2)


def _new_block(result: Result) -> Measured:
    ours, bare = result["pool"]["median_ms"], result["bare"]["median_ms"]
    return Measured(f"{ours / bare:.2f} x ({ours:.0f} ms, bare {bare:.0f} ms)", ours < 1.2 * bare)


def _reconnect(result: Result) -> Measured:
    back_s = result["back_after_s"]
    if back_s is None:
        return Measured("not all came back", False)
    return Measured(f"{back_s:.1f} s", back_s < 3)


def _block_out(result: Result) -> Measured:
    alone, at_once = (statistics.median(result[it]["last_ms"]) for it in ("alone", "at_once"))
    most = max(result["alone"]["last_ms"])
    words = f"{alone:.1f} ms to its last bytes, at most {most:.1f} ms; {at_once:.1f} ms right behind another"
    return Measured(words, alone < 5)


def _flatness(result: Result) -> Measured:
    us = rates.of(result, "pool", "us_a_share").values()
    ratio = max(us) / min(us)
    return Measured(f"{ratio:.2f} x ({min(us):.1f} to {max(us):.1f} us)", ratio <= 1.4)


def _command_line(result: Result) -> Measured:
    took = [it["median_s"] for it in result["commands"]]
    return Measured(f"{min(took):.2f} to {max(took):.2f} s", max(took) < 0.3)


def _statement(result: Result) -> Measured:
    took_s = next(it["took_s"] for it in result["commands"] if it["command"].startswith("report statement"))
    return Measured(f"{took_s:.1f} s, with the start of Python", took_s < 2)


def _books(result: Result) -> Measured:
    rows, on = result["rows_per_s"], result["sides"][-1]["database"]
    return Measured(f"{rows:,}, {on}", rows >= 50_000)


def _kept_shares(result: Result) -> Measured:
    default, sixteenth = (
        statistics.median(kept_shares.ratios(result, it)) for it in ("default", "one of 16")
    )
    words = f"{default:.3f} x by default, {sixteenth:.3f} x where one of 16 is kept"
    return Measured(words, default <= kept_shares.PROMISED)


FIGURES: Final = (
    Figure(
        what="server processor for an accepted, durable share against echo, 1,000 / 5,600 / 16,000 sessions",
        promised="1.25 x",
        part="rates",
        measured=_cpu_against_echo,
        limits=(
            "The sockets take of a share what they take of a line of echo; judging alone takes what the "
            "measured column adds to that, half of it for SHA-256, and with a sync to the disk, 0.4 us of a "
            "commit's part, that is 1.24 x with 1,000 sessions, without a line of Python. Where 8.7 us went "
            "there (perf): the kernel 6.2, where echo has 5.3, judging 1.4, Python 0.9 (rounds, commits, the "
            "journal's thread), the rest 0.2. A commit in the engine was built and measured whole "
            "(docs/decisions/013): a tenth less, 1.44 / 1.23 / 1.21 x in a night in which the pool had "
            "1.63 / 1.46 / 1.25, and it is a second hand on the journal. What lifts it: io_uring, by "
            "which a commit's answers leave with one system call, a tenth to a fifth less in a server that "
            "does nothing else (011), a disk that syncs for less, a larger cache."
        ),
    ),
    Figure(
        what="accepted shares/s, 12-branch jobs, answered after the commit",
        promised="90 % of echo's in the same run; 100,000 where the machine gives it",
        part="rates",
        measured=_rate_against_echo,
        limits=(
            "With one share of each machine under way, every answer waits for a commit, so few "
            "sessions leave the server idle while the disk syncs, and many share two cores with the "
            "client that hashes for them. What lifts it: a disk that syncs faster, a third core for "
            "the client, several processes that serve miners."
        ),
    ),
    Figure(
        what="against ckpool, per processor second",
        promised="4 x everywhere, 6 x at 16,000",
        part="rates",
        measured=_against_ckpool,
        limits=(
            "ckpool is not built here: it was measured in turn with echo, 46 to 60 us a share, and keeps "
            "none on disk before it answers. It pays the kernel for a share as the pool does, so that 6 x "
            "at 16,000 needs the pool at what echo takes. What lifts it is what lifts the ratio to echo."
        ),
    ),
    Figure(
        what=(
            "p99, p99.9, max of an answer at site load (3,700/s, 16,000 machines), 200 s, with folds,"
            " a statement and a backup"
        ),
        promised="25 / 60 / 250 ms",
        part="latency-16000",
        measured=_latency,
        limits=(
            "Two cores have the client, folds, a backup and a statement as well as the pool: what "
            "waits is the pool's thread for a core or for the interpreter while a fold or a report is"
            " written, and a commit for the disk that a backup fills. What lifts it: a third core; "
            "the books' taking in a process of its own; a disk for the journal alone."
        ),
    ),
    Figure(
        what="live sessions in one process",
        promised="as many as it may open descriptors: 19,000 under nofile 20,000",
        part="memory",
        measured=_sessions,
        limits=(
            "Some were refused or not served within two minutes. More descriptors (`LimitNOFILE`) lift it."
        ),
    ),
    Figure(
        what="memory per session",
        promised="under 2 KiB",
        part="memory",
        measured=_memory,
        limits=(
            "Python objects of a session: its connection, its session and its place among others. "
            "Fewer attributes, or sessions that the engine alone knows, would lift it."
        ),
    ),
    Figure(
        what="new-block job to the last of 19,000 sessions",
        promised="under 1.2 x a bare loop of sends on the same cores",
        part="new-block",
        measured=_new_block,
        limits=(
            "The sends are the kernel's, over as many threads as there are cores; before the first "
            "one leaves, jobs are built for each difficulty and extranonce. The client reads them on "
            "the same two cores. More cores lift it."
        ),
    ),
    Figure(
        what="19,000 miners reconnect at once: all mining again",
        promised="under 3 s",
        part="new-block",
        measured=_reconnect,
        limits=(
            "Three requests of a handshake are answered in Python, in turns that leave room for who "
            "mines already, while the client opens its connections on the same two cores. What lifts "
            "it: handshakes in the engine, several processes that serve miners."
        ),
    ),
    Figure(
        what="share in to submitblock out, 1.5 MB block",
        promised="under 5 ms",
        part="block-out",
        measured=_block_out,
        limits=(
            "Its file is written before it leaves, so that no kill loses it, and synced meanwhile. The rest "
            "is threads of one interpreter that wait for each other: for the file, for the commit of its "
            "share, for what else the pool asks its node; and the node of the benchmark, Python too, on the "
            "same two cores. What lifts it: a third core; a block's way in native code."
        ),
    ),
    Figure(
        what="cost per share as sessions grow from 400 to 19,000",
        promised="flat within 1.4 x",
        part="rates",
        measured=_flatness,
        limits=(
            "The fewer shares come in a round, the more of it each pays; and many sessions' sockets "
            "do not stay in the processor's caches. Echo grows too. A larger cache lifts it."
        ),
    ),
    Figure(
        what="command line: help, version, questions to a running pool",
        promised="under 0.3 s",
        part="command-line",
        measured=_command_line,
        limits=(
            "Most of it is Python that starts and reads modules, its own and Typer's. What lifts it: "
            "fewer of them before the answer; a processor with a faster core."
        ),
    ),
    Figure(
        what="statement of a month of 5,600 machines",
        promised="under 2 s",
        part="month",
        measured=_statement,
        limits=(
            "Half of it is the start of Python with SQLAlchemy, the rest rows that are read by hour "
            "and container. What lifts it: sums by day for days that are over."
        ),
    ),
    Figure(
        what="keeping shares for proofs, of the processor a share",
        promised="within 5 %",
        part="kept-shares",
        measured=_kept_shares,
        limits=(
            "Beside the noise of others, the journal's bytes and the books' of each share that is kept. A "
            "larger `share_difficulty` lifts it."
        ),
    ),
    Figure(
        what="rows/s that one hub books",
        promised="50,000",
        part="books",
        measured=_books,
        limits=(
            "One transaction after the other, of a row's checks, its place in the primary key and its "
            "log in the database, and some 4 us of Python. What lifts it: a core for the database and "
            "one for the hub, as they are measured on two cores that have others' work too."
        ),
    ),
)
