"""python -m tests.simulation: play seeds, say what was found, and how to see it again."""

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from tests.fixtures.in_memory import move_there
from tests.simulation.auditor import Found
from tests.simulation.ground import LARGE, SMALL, Outcome
from tests.simulation.money_auditor import play_money
from tests.simulation.planted_bugs import PLANTED, planted
from tests.simulation.planted_route_bugs import ROUTES_PLANTED
from tests.simulation.planted_site_bugs import SITES_PLANTED
from tests.simulation.routes_auditor import play_routes
from tests.simulation.sites_world import play_sites
from tests.simulation.world import play

SITES_EVERY, SITES_AT = 4, 2  # one seed of so many, beginning with that, is a world of several sites
FOUND_MAX = 10  # of a world of routes: what was wrong once may be wrong with every share


def main() -> int:
    """1 where a seed was not clean."""
    asked = _arguments()
    move_there()
    seeds = range(asked.first, asked.first + asked.seeds)
    if asked.seed is not None:
        seeds = range(asked.seed, asked.seed + 1)
    if asked.routes:
        return _play_each(seeds, partial(_routes, asked.planted), trace=asked.trace)
    if asked.money:
        return _play_each(seeds, _money, trace=asked.trace)
    sums, began_s, bad = Counter[str](), time.process_time(), 0
    for seed in seeds:
        with planted(asked.planted):
            if asked.sites or seed % SITES_EVERY == SITES_AT:
                outcome = play_sites(seed)
            else:
                outcome = play(seed, LARGE if asked.large else SMALL)
        if asked.trace:
            print("\n".join(outcome.trace))
        bad += not outcome.clean
        sums.update(shares=outcome.shares, acknowledged=outcome.acknowledged, blocks=outcome.blocks)
        sums.update(counted_elsewhere=outcome.counted_elsewhere)
        sums.update(lives=outcome.lives, faults=len(outcome.faults))
        if asked.seed is not None or not outcome.clean:
            print(_words(outcome), flush=True)
    took_s = time.process_time() - began_s
    words = ", ".join(f"{count} {what}" for what, count in sums.items())
    print(f"{len(seeds)} seeds, {bad} of them not clean: {words}; {took_s:.0f} s of CPU")
    return 1 if bad else 0


class Seen(NamedTuple):
    """What there is to say of a world that was played."""

    found: Sequence[Found]
    course: Sequence[str]
    counts: Counter[str]


def _play_each(seeds: range, play_one: Callable[[int], Seen], *, trace: bool) -> int:
    bad, sums = 0, Counter[str]()
    for seed in seeds:
        try:
            seen = play_one(seed)
        except Exception:
            traceback.print_exc()
            print(f"seed {seed} ended", flush=True)
            bad += 1
            continue
        bad += bool(seen.found)
        sums.update(seen.counts)
        if trace:
            print("\n".join(seen.course))
        for it in seen.found[:FOUND_MAX]:
            print(f"seed {seed}: {it}", flush=True)
    words = ", ".join(f"{count} {what}" for what, count in sorted(sums.items()))
    print(f"{len(seeds)} seeds, {bad} of them not clean: {words}")
    return 1 if bad else 0


def _routes(bug: str | None, seed: int) -> Seen:
    with planted(bug):
        world = play_routes(seed)
    counts = Counter(f"moved by {kind.value}" for kind in world.placement.moved.elements())
    counts.update(f"{it.verdict}" for it in world.shares)
    counts.update({"taken elsewhere": sum(len(pool.counted) for pool in world.pools.values())})
    return Seen(world.found, world.course, counts)


def _money(seed: int) -> Seen:
    played = play_money(seed)
    done = Counter({what: count for what, count in played.done.items() if "refused" not in what})
    return Seen(() if played.found is None else (played.found,), played.course, done)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--seeds", type=int, default=50, help="so many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--large", action="store_true", help="up to 200 machines")
    parser.add_argument("--sites", action="store_true", help="worlds of several sites alone")
    parser.add_argument("--routes", action="store_true", help="worlds of routes alone, which have no books")
    parser.add_argument("--money", action="store_true", help="worlds of money alone, on SQLite")
    parser.add_argument("--trace", action="store_true", help="all that happened")
    parser.add_argument(
        "--planted", choices=PLANTED | SITES_PLANTED | ROUTES_PLANTED, help="with a bug that is to be found"
    )
    asked = parser.parse_args()
    for name in ("routes", "money"):
        others = {"large", "sites", "routes", "money"} - {name}
        if getattr(asked, name) and any(getattr(asked, other) for other in others):
            parser.error(f"--{name} goes with --seed, --seeds, --first, --trace and --planted alone")
    if asked.planted and (asked.money or asked.routes is not (asked.planted in ROUTES_PLANTED)):
        parser.error(f"--planted {asked.planted} is of another world")
    return asked


def _words(outcome: Outcome) -> str:
    faults = ", ".join(outcome.faults) or "nothing went wrong"
    return f"seed {outcome.seed}: {faults}; its course is {outcome.course[:16]}\n{outcome.words}"


if __name__ == "__main__":
    sys.exit(main())
