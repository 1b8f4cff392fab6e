"""What `angara upstream test` does: it reads the database itself, connects from here, and tells what each
endpoint gives.

Must not know: how an upstream is added.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import trio
import typer

from pool.cli.books import Books
from pool.cli.opened_books import opened_to_read
from pool.cli.output import Form, print_json, say
from pool.reports.figures import difficulty, grouped
from pool.upstreams.rows import find_upstream, numbered_endpoint
from pool.upstreams.trial import Trial, try_endpoints
from stratum.difficulty import difficulty_of_target
from stratum.upstream.failover import UpstreamSettings


def trials_of(books: Books, name: str, endpoint: str | None) -> tuple[Trial, ...]:
    """Of all its endpoints, or of the one that is named. Raises RegistryError."""
    with opened_to_read(books) as store, store.read() as connection:
        record = find_upstream(connection, name)
    chosen = list(enumerate(record.endpoints, 1))
    if endpoint is not None:
        number = numbered_endpoint(record, endpoint)
        chosen = chosen[number - 1 : number]
    settings = UpstreamSettings(name=name, suggest_difficulty=record.suggest_difficulty)
    return tuple(trio.run(try_endpoints, settings, chosen))


def show_trials(trials: Sequence[Trial], form: Form) -> None:
    if form is Form.JSON:
        print_json([_trial_row(trial) for trial in trials])
        return
    for trial in trials:
        print_trial(trial)


def _trial_row(it: Trial) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": it.number,
        "address": it.endpoint.address,
        "usable": it.facts is not None,
    }
    if it.facts is None:
        return row | {"reason": it.reason}
    facts = it.facts
    return row | {
        "extranonce1": facts.extranonce1.hex(),
        "filler_bytes": facts.split.filler_bytes,
        "prefix_bytes": facts.split.prefix_bytes,
        "miner_bytes": facts.split.miner_bytes,
        "sessions": facts.split.sessions,
        "limits": facts.split.limits,
        "mask": f"{facts.mask:08x}",
        "target": f"{facts.target:064x}",
        "difficulty": _number(difficulty_of_target(facts.target)),
        "height": facts.work.height,
        "took_s": round(facts.took_s, 3),
    }


def print_trial(it: Trial) -> None:
    tls = " (TLS)" if it.endpoint.tls else ""
    if it.facts is None:
        say(f"{it.number}  {it.endpoint.address}{tls}: NOT USABLE: {it.reason}")
        return
    split = it.facts.split
    rolling = f"version mask {it.facts.mask:08x}" if it.facts.mask else "no version rolling"
    say(f"{it.number}  {it.endpoint.address}{tls}: usable, a job after {it.facts.took_s:.2f} s")
    typer.echo(
        f"   extranonce2 of {split.upstream_bytes} bytes: {split.prefix_bytes} ours"
        f" ({grouped(split.sessions)} sessions), {split.miner_bytes} the miner's,"
        f" {split.filler_bytes} filler"
    )
    if split.limits:
        say(f"   BUT: {split.limits}")
    say(f"   {rolling}, difficulty {_difficulty_words(it.facts.target)}, height {it.facts.work.height}")


def _number(exact: Fraction) -> int | float:
    """Whole, or as near as a float is."""
    return exact.numerator if exact.denominator == 1 else float(exact)


def _difficulty_words(target: int) -> str:
    """Whole, as everywhere, or its first digits."""
    number = _number(difficulty_of_target(target))
    return difficulty(number) if isinstance(number, int) else f"{number:.6g}"
