"""What `angara swarm` does: looks at what was asked for, runs it, and shows what came of it.

Invariant: shares go to another host than this one only where somebody says that its server is his.

Must not know: how machines speak.
"""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import typer

from pool.cli.mistakes import EXIT_WRONG
from pool.cli.output import Column, Form, print_json, say, show
from pool.cli.progress import progress
from pool.reports.figures import hashrate
from pool.settings_file import BadConfig
from pool.swarm.latency_picture import picture
from pool.swarm.load import MACHINES_MAX, Arrived, Cut, LoadOptions, Measured, run_load
from pool.swarm.load_report import HASHES_OF_DIFFICULTY_1, document
from pool.swarm.profiles import PROFILES
from pool.whole_file import write_whole

PREFIXES: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
LATENCIES: Final = (
    ("share to answer", "ack_ms"),
    ("share to answer, slow readers", "slow_readers_ack_ms"),
    ("share due to share sent", "found_after_ms"),
    ("connect to first work", "first_job_ms"),
    ("new block, behind the first", "new_block_ms"),
)
NOT_FOUND_WORTH_TELLING: Final = 0.02  # of all that were due; at the end of a run some always are


def destination(text: str, is_mine: bool) -> tuple[str, str, int]:
    """Host, its numeric address, and port. Raises BadConfig for another host that nobody calls his own."""
    host, colon, port_text = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if (
        not colon
        or not host
        or not port_text.isascii()
        or not port_text.isdigit()
        or not 0 < int(port_text) < 65536
    ):
        raise BadConfig(f"{text}: a server is HOST:PORT")
    port = int(port_text)
    try:
        address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise BadConfig(f"{host}: {getattr(error, 'strerror', None) or 'no name of a host'}") from None
    if "%" in address:
        raise BadConfig(f"{address}: an address with a scope is not taken")
    if not ip_address(address).is_loopback and not is_mine:
        raise BadConfig(
            f"{host} ({address}) is not this host: thousands of connections and their shares are an attack "
            "on a server that is somebody else's. If it is yours: --this-server-is-mine"
        )
    return host, address, port


def hashrate_from(text: str) -> float:
    """500k, 2.5M: hashes a second."""
    number, prefix = (text[:-1], text[-1:]) if text[-1:] in PREFIXES else (text, "")
    try:
        value = float(number) * PREFIXES[prefix]
    except ValueError:
        value = -1.0
    if not 0 < value < 1e18:
        raise BadConfig(f"--hashrate: {text} is no hashrate, e.g. 500k or 2.5M hashes a second")
    return value


def cut_from(text: str, containers: int) -> Cut:
    """AT:FOR or AT:FOR:CONTAINER."""
    parts = text.split(":")
    try:
        at_s, for_s = float(parts[0]), float(parts[1])
        container = int(parts[2]) if len(parts) == 3 else None
        if len(parts) > 3 or not 0 <= at_s < 1e6 or not 0 <= for_s < 1e6:
            raise ValueError
    except (ValueError, IndexError):
        raise BadConfig(f"--cut: {text} is not AT:FOR in seconds, or AT:FOR:CONTAINER") from None
    if container is not None and not 1 <= container <= containers:
        raise BadConfig(f"--cut: container {container} of {containers}")
    return Cut(at_s=at_s, for_s=for_s, container=None if container is None else container - 1)


def swarm(options: LoadOptions, svg: Path | None, form: Form) -> None:
    """Run it and show it."""
    unknown = [name for name in options.profiles if name not in PROFILES]
    if unknown:
        raise BadConfig(f"--profile: {unknown[0]} is none of {', '.join(PROFILES)}")
    if options.machines > MACHINES_MAX:
        raise BadConfig(f"{options.machines} machines: {MACHINES_MAX} at most in one process")
    if options.bad + options.late > 1:
        raise BadConfig("--bad and --late: together they are more than all shares")
    if svg is not None and not svg.absolute().parent.is_dir():
        raise BadConfig(f"--svg: there is no directory {svg.parent}")
    with _signals() as signals, progress("mining", round(options.seconds)) as told:
        measured = run_load(
            options, lambda: bool(signals), _say_arrived(options), lambda passed_s: told(int(passed_s))
        )
    report = document(measured)
    if svg is not None:
        rate = f"{report['accepted_per_s']:,.0f} accepted shares/s"
        title = f"{report['server']}: {options.machines:,} machines, {rate}"
        write_whole(svg, picture(title, measured.counted["latency"]).encode())
    if form is Form.JSON:
        print_json(report)
    else:
        _show(report, measured)
    if not measured.arrived.machines:
        raise typer.Exit(EXIT_WRONG)


def _say_arrived(options: LoadOptions) -> Any:
    def say_arrived(arrived: Arrived) -> None:
        words = (
            f"{arrived.machines:,} of {options.machines:,} machines have work after {arrived.after_s:.1f} s"
        )
        say(words, err=True)
        sys.stderr.flush()

    return say_arrived


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Signals that came: the first ends the run, with its report; the second is as without us."""
    came: list[int] = []

    def heard(number: int, _: Any) -> None:
        came.append(number)
        for it, handler in before.items():
            signal.signal(it, handler)

    before = {it: signal.signal(it, heard) for it in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for it, handler in before.items():
            signal.signal(it, handler)


def _show(report: dict[str, Any], measured: Measured) -> None:
    rejected = sum(
        count for codes in report["verdicts"].values() for code, count in codes.items() if code != "accepted"
    )
    kinds = ", ".join(f"{count:,} {name}" for name, count in report["profiles"].items())
    say(f"{report['server']}: {kinds}; {report['mining_at_the_end']:,} mine at the end")
    cpu = report["client_cpu"]["us_a_share"]
    say(
        f"{report['seconds']:,.1f} s: {report['accepted']:,} shares accepted, "
        f"{report['accepted_per_s']:,.1f} a second; {rejected:,} rejected, "
        f"{report['unanswered']:,} unanswered"
        + ("" if cpu is None else f"; {cpu:.1f} us of our processor a share")
    )
    _show_hashing(report)
    _show_verdicts(report)
    _show_latencies(report)
    _show_events(report, measured)


def _show_latencies(report: dict[str, Any]) -> None:
    rows = [{"what": title} | report[key] for title, key in LATENCIES if report[key]["count"]]
    if not rows:
        return
    say("")
    titles = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"))
    columns = [Column(title, key, lambda ms: f"{ms:,.1f}", right=True) for title, key in titles]
    count = Column("count", "count", lambda it: f"{it:,}", right=True)
    show(rows, (Column("milliseconds", "what"), count, *columns))


def _show_hashing(report: dict[str, Any]) -> None:
    hashing = report["hashing"]
    if report["held_back"]:
        say(f"{report['held_back']:,} shares were held back: their machines had 16 without an answer")
    if report["not_found"] <= NOT_FOUND_WORTH_TELLING * report["due"]:
        return
    told = hashing["difficulty_least"] or 1.0  # Stratum's, where nobody mines any more
    most = "" if hashing["difficulty_most"] in (None, told) else f" to {hashing['difficulty_most']:.6g}"
    share = f"{told * HASHES_OF_DIFFICULTY_1:,.0f} hashes a share{' at least' if most else ''}"
    of_a_core = hashing["of_a_core"]
    made, core = hashrate(hashing["hashes_per_s"]), hashrate(hashing["core_hashes_per_s"])
    say(
        f"{report['not_found']:,} of {report['due']:,} shares that were due were not found: difficulty "
        f"{told:.6g}{most} takes {share}, and all machines together made {made}. Have the server ask for "
        f"less (--suggest-difficulty), or let more be hashed: --hashing is {of_a_core:g} of a core "
        f"now, and a core makes {core}"
    )


def _show_verdicts(report: dict[str, Any]) -> None:
    codes = sorted(
        {code for by_code in report["verdicts"].values() for code in by_code},
        key=lambda it: (it != "accepted", it),
    )
    if not codes:
        return
    say("")
    columns = [Column(code, code, lambda it: f"{it:,}", right=True) for code in codes]
    show(
        [{"kind": kind} | it for kind, it in report["verdicts"].items()], (Column("shares", "kind"), *columns)
    )
    for code, words in report["words"].items():
        if code.lstrip("-").isdigit():  # else it is the server's word already
            say(f"{code}: {words}")


def _show_events(report: dict[str, Any], measured: Measured) -> None:
    say("")
    blocks = report["new_blocks"]
    if blocks["count"]:
        say(f"new blocks: {blocks['count']}, of which {blocks['reached_all']} reached all who mine")
    if "max_ms" in blocks:
        say(
            "from the first machine with work on a new block to the last: "
            f"median {blocks['median_ms']:,.1f} ms, max {blocks['max_ms']:,.1f} ms"
        )
    for cut in report["cuts"]:
        whose = "all" if cut["container"] is None else f"container {cut['container']}"
        back = cut["all_back_after_s"]
        say(
            f"power cut of {whose} at {cut['at_s']:g} s for {cut['for_s']:g} s: "
            + ("not all came back" if back is None else f"all had work {back:.1f} s after it")
        )
    if report["lines"]["reconnects_asked"]:
        elsewhere = report["lines"]["reconnects_elsewhere"]
        say(
            f"asked to reconnect: {report['lines']['reconnects_asked']:,} times"
            + (f", {elsewhere:,} of them elsewhere, where a swarm does not go" if elsewhere else "")
        )
    for reason, count in report["lost"].items():
        say(f"connections that failed: {count:,}, {reason}")
    if measured.interrupted:
        say("ended before its time")
