"""What keeping shares for proofs costs a whole server: the same pool without, by default, and with one of
sixteen shares kept, each loaded in turn, so that what else the machine does comes to all of them. A second
pool without says how much of a ratio is noise.

By default hardly any of a swarm's shares is hard enough, which is what keeping costs the others; of a site
one of some hundred is. One of sixteen is more than any has: with journal, books, closings and signatures.
"""

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import msgspec
from sqlalchemy import create_engine, text

from bench.part import Part, Section, table
from bench.servers import (
    NO_BLOCKS,
    TEMPLATE_TXS,
    RunningPool,
    angara,
    is_mining,
    load_measured,
    regtest,
    running,
    temporary_directory,
    wait_for,
)
from pool.data_dir import database_url
from stratum.difficulty import DIFFICULTY_LOG2_MIN

SESSIONS: Final = 1_000
ROUNDS: Final = 6
WARMUP_S, SECONDS = 3.0, 15.0
PROOF: Final = '[proof]\nkey_file = "proof.key"\n'
# From which difficulty on shares are kept, where a pool's machines have the easiest.
WAYS: Final[dict[str, str]] = {
    "none": "",
    "none again": "",
    "default": PROOF,
    "one of 16": f"{PROOF}share_difficulty = {2.0 ** (DIFFICULTY_LOG2_MIN + 4)}\n",
}
WORDS: Final = {
    "none": "none are kept",
    "none again": "none here either: what noise makes of it",
    "default": "from 2^24 on, the default",
    "one of 16": "one of 16 is kept",
}
PROMISED: Final = 1.05


@contextmanager
def _pool(more: str) -> Iterator[RunningPool]:
    with temporary_directory() as directory:
        (directory / "node").mkdir()
        angara("proof", "key", directory / "proof.key")
        options = ("--template-txs", str(TEMPLATE_TXS), "--network-bits", NO_BLOCKS)
        with (
            regtest(directory / "node", *options) as (node, cookie),
            running(directory, node, cookie, more=more) as it,
        ):
            angara("tenant", "add", "acme", "--data-dir", directory)
            wait_for(lambda: is_mining(it.port, "acme"))
            yield it


def run() -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    with ExitStack() as stack:
        pools = {name: stack.enter_context(_pool(more)) for name, more in WAYS.items()}
        names = list(WAYS)
        for number in range(ROUNDS):
            order = names[number % len(names) :] + names[: number % len(names)]
            for name in order:
                loaded = load_measured(
                    pools[name], SESSIONS, "--closed-loop", warmup_s=WARMUP_S, seconds=SECONDS
                )
                runs.append(
                    {
                        "round": number,
                        "way": name,
                        "us_a_share": round(loaded.us_a_share, 2),
                        "per_s": loaded.report["accepted_per_s"],
                    }
                )
        closed = {name: _closed(it) for name, it in pools.items()}
    return {"sessions": SESSIONS, "seconds": SECONDS, "runs": runs, "closed": closed}


def _closed(pool: RunningPool) -> int:
    """Shares that are in closings."""
    engine = create_engine(database_url(pool.directory))
    with engine.connect() as connection:
        kept = connection.scalars(text("SELECT kept FROM share_roots")).all()
    engine.dispose()
    return sum(sum(msgspec.json.decode(it, type=dict[str, int]).values()) for it in kept)


def ratios(result: dict[str, Any], way: str) -> list[float]:
    """Processor a share against the pool that keeps none, round by round."""
    of = {(it["round"], it["way"]): it["us_a_share"] for it in result["runs"]}
    return [us / of[number, "none"] for (number, name), us in of.items() if name == way]


def section(result: dict[str, Any]) -> Section:
    rows = []
    for way, words in WORDS.items():
        mine = [it for it in result["runs"] if it["way"] == way]
        found = ratios(result, way)
        rows.append(
            [
                words,
                f"{statistics.median(found):.3f}",
                f"{min(found):.3f} to {max(found):.3f}",
                f"{statistics.median(it['us_a_share'] for it in mine):.1f}",
                f"{statistics.median(it['per_s'] for it in mine):,.0f}",
                f"{result['closed'][way]:,}",
            ]
        )
    rounds = len({it["round"] for it in result["runs"]})
    heads = ("", "processor a share", "of each round", "microseconds", "shares a second", "in closings")
    return Section(
        (
            f"{result['sessions']:,} machines with one share under way each, {rounds} rounds of "
            f"{result['seconds']:.0f} s of each pool, in turns that begin with another one each time. Ratios "
            "to the first pool in the same round: their median, the least and the most.\n",
            *table(heads, rows),
        )
    )


PART: Final = Part(title="Shares that are kept for proofs", seconds=470, run=run, section=section)
