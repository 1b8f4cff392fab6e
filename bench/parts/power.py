"""A curtailment of a whole site, from the call to the restore: whether it is met and proven in time, how long
machines are away, what machines that stay notice, and whether the books say what was.

The machines are simulated, and mine for a pool as it is run; what they do in truth is known here, and is not
told to the pool. Must not know: how they are made.
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
import trio
from sqlalchemy import Connection, func, select

from bench.curtailed_site import FOLDED_S, SITE, CurtailedSite, Size, begun, is_back, numbers_of
from bench.part import Part, Section, table
from payouts.energy.events import books_of
from payouts.ratebook import price_of
from payouts.rates import BPS, HASHES_PER_DIFFICULTY
from payouts.schemas.money import rates, tally_minutes
from payouts.tallies import ACCEPTED
from pool.power.curtailment.events import load_event
from pool.power.curtailment.machines import machines_of
from pool.power.curtailment.plan import WAKE_S
from pool.power.curtailment.schema import power_event_steps
from pool.power.curtailment.states import MachineState
from pool.power.curtailment.told_books import ToldBooks
from pool.swarm.load_report import spread

LOOK_S: Final = 1.0
BOOKS_LOOK_S: Final = 5.0
OF_WHAT_IS_DRAWN: Final = 3  # a third of it stays: 6 MW of 18
LASTS_S: Final = 4 * 3_600
PROVEN_S_MAX: Final = 900.0
PHASES: Final = ("before", "curtailed", "restored")
PERCENTILES: Final = {"p50": "p50", "p99": "p99", "p999": "p99.9", "max": "max"}


class Run:
    """One curtailment."""

    def __init__(self, size: Size, it: CurtailedSite) -> None:
        self._size, self._it = size, it
        self._number = 0
        self._drawn: list[tuple[float, int]] = []  # in truth, by the wall clock

    async def run(self) -> dict[str, Any]:
        size, it = self._size, self._it
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await it.counted()
            await trio.sleep(size.before_s)
            phases = {"before": await self._phase()}
            before_watts = it.site.watts
            limit_watts = before_watts // OF_WHAT_IS_DRAWN // 1_000 * 1_000
            asked = "--site", SITE, "--to-kw", limit_watts // 1_000, "--ramp-s", size.ramp_s
            (now,) = (await it.angara("power", "now", "--site", SITE))["sites"]
            error_watts = now["watts"] * now["error_bps"] // BPS
            plan = await it.angara("power", "plan", *asked)
            until = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(time.time() + LASTS_S))
            self._number = (await it.angara("power", "curtail", *asked, "--until", until))["id"]
            met = await self._until_proven(limit_watts + error_watts)
            await trio.sleep(size.hold_s)
            held = await self._held()
            phases["curtailed"] = await self._phase()
            restored = await self._restore(plan["restore_s"])
            phases["restored"] = await self._phase()
            await it.angara("power", "release", self._number)
            await self._until_over()
            await trio.sleep(FOLDED_S)
            nursery.cancel_scope.cancel()
        return {
            "size": msgspec.to_builtins(size),
            "before_watts": before_watts,
            "limit_watts": limit_watts,
            "error_watts": error_watts,
            "plan": {name: plan[name] for name in ("before_watts", "machines", "restore_s")},
            "met": met,
            "held": held,
            "restored": restored,
            "phases": phases,
            "books": await trio.to_thread.run_sync(self._books),
        }

    async def _watch(self) -> None:
        while True:
            self._drawn.append((time.time(), self._it.site.watts))
            await trio.sleep(LOOK_S)

    async def _phase(self) -> dict[str, Any]:
        latency, of_site, lost = await self._it.counted()
        return {
            "ack_ms": spread(sorted(latency.items())),
            "of_site_ack_ms": spread(sorted(of_site.items())),
            "lost": lost,
        }

    async def _until_proven(self, limit_watts: int) -> dict[str, Any]:
        """When no more than that was drawn in truth, and when it was proven; from when it began."""
        proven_s: float | None = None
        with trio.move_on_after(PROVEN_S_MAX):
            while True:
                proven_s = await self._moved_at("holding")
                if proven_s is not None:
                    break
                await trio.sleep(BOOKS_LOOK_S)
        began_s = await self._moved_at("curtailing")
        assert began_s is not None
        met_s = next((at for at, watts in self._drawn if at >= began_s and watts <= limit_watts), None)
        states = await self._states()
        found = {
            "met_after_s": None if met_s is None else round(met_s - began_s, 1),
            "proven_after_s": None if proven_s is None else proven_s - began_s,
            "states": states,
        }
        print(f"  {found}", flush=True)
        return found

    async def _until_over(self) -> None:
        """Who does not wake is waited for to the end, before the event is over, and booked."""
        with trio.fail_after(WAKE_S + PROVEN_S_MAX):
            while True:
                if await self._moved_at("over") is not None:
                    break
                await trio.sleep(BOOKS_LOOK_S)

    async def _held(self) -> dict[str, Any]:
        """What the event says is off, and what is."""

        def shed(connection: Connection) -> int:
            machines = machines_of(connection, self._number).values()
            return sum(it.shed_watts for it in machines if it.state is MachineState.CONFIRMED)

        proven_watts = await self._read(shed)
        site = self._it.site
        true = [it.api.options for it in site.machines if not it.api.mines]
        found = {
            "proven_watts": proven_watts,
            "true_watts": sum(it.watts - it.idle_watts for it in true),
            "true_machines": len(true),
            "drawn_watts": site.watts,
            "states": await self._states(),
        }
        print(f"  {found}", flush=True)
        return found

    async def _restore(self, planned_s: int) -> dict[str, Any]:
        """Until all that wake at all have a share again, or the time of the plan is over."""
        site = self._it.site
        went = {machine.name for machine in site.machines if not machine.api.mines}
        began_s = trio.current_time()
        await self._it.angara("power", "restore", self._number)
        back: dict[str, float] = {}
        states: dict[str, int] = {}
        with trio.move_on_after(planned_s):
            while True:
                states = await self._states()
                asleep = sum(not is_back(it) and it.name in went for it in site.machines)
                away = sum(states.get(it, 0) for it in ("asked", "confirmed", "drifted", "waking", "lost"))
                for percent in (50, 95, 99):
                    if away <= len(went) * (100 - percent) // 100:
                        back.setdefault(str(percent), round(trio.current_time() - began_s, 1))
                told = all(states.get(it, 0) == 0 for it in ("asked", "confirmed", "drifted"))
                if told and away <= asleep and asleep <= self._size.sleepers:
                    back["all"] = round(trio.current_time() - began_s, 1)
                    break
                await trio.sleep(BOOKS_LOOK_S)
        found = {"back_after_s": back, "went": len(went), "states": states}
        print(f"  {found}", flush=True)
        return found

    def _books(self) -> dict[str, Any]:
        """What is booked of it, by the code that books it, and what was."""
        with self._it.store.read() as connection:
            event = load_event(connection, self._number)
            assert event.ended_at_s is not None
            (part,) = books_of(connection, *ToldBooks().event(connection, self._number)).parts
            priced = self._priced(connection, event.ended_at_s)
        began_s = min(begin for it in self._it.site.machines for begin, _ in it.rests)
        found = {
            "booked": msgspec.to_builtins(part),
            "true": msgspec.to_builtins(self._it.truth(began_s, event.ended_at_s)),
            **priced,
        }
        print(f"  {found}", flush=True)
        return found

    def _priced(self, connection: Connection, until_s: int) -> dict[str, float]:
        """What machines would have been paid for the time that they were off in truth: by what they did in
        the hour before, exactly, and by their hashrate."""
        rate = connection.execute(select(rates).order_by(rates.c.id.desc()).limit(1)).one()
        sat = float(price_of(rate).credit_sat(1, 1))  # type: ignore[arg-type]
        work, window_s = _work_before(connection, self._number)
        numbers = numbers_of(self._it.store)
        off = [
            (numbers[it.name], seconds)
            for it in self._it.site.machines
            if (seconds := self._it.off(it, 0, until_s)) > 0
        ]
        a_second = self._it.site.options.hashrate_hps / float(HASHES_PER_DIFFICULTY)
        return {
            "of_hour_before_sat": sum(work.get(it, 0.0) / window_s * seconds * sat for it, seconds in off),
            "of_hashrate_sat": sum(a_second * seconds * sat for _, seconds in off),
        }

    # What the books have

    async def _read(self, work: Any) -> Any:
        def read() -> Any:
            with self._it.store.read() as connection:
                return work(connection)

        return await trio.to_thread.run_sync(read)

    async def _states(self) -> dict[str, int]:
        machines = await self._read(partial(machines_of, event_id=self._number))
        counts: dict[str, int] = {}
        for it in machines.values():
            counts[it.state.value] = counts.get(it.state.value, 0) + 1
        return counts

    async def _moved_at(self, state: str) -> float | None:
        """When the event came to be in this state first."""
        of = power_event_steps.c
        query = select(func.min(of.at_s)).where(
            of.event_id == self._number, of.worker_id.is_(None), of.state == state
        )
        found: float | None = await self._read(lambda connection: connection.scalar(query))
        return found


def _work_before(connection: Connection, number: int) -> tuple[Mapping[int, float], int]:
    """By machine: difficulty of all accepted shares in the window before the event, and its seconds."""
    one = next(iter(machines_of(connection, number).values()))
    of = tally_minutes.c
    rows = connection.execute(
        select(of.worker_id, of.difficulty_log2, func.sum(of.shares))
        .where(of.minute >= one.before_from_s // 60, of.minute < one.before_until_s // 60)
        .where(of.verdict == ACCEPTED)
        .group_by(of.worker_id, of.difficulty_log2)
    )
    found: dict[int, float] = {}
    for worker, log2, shares in rows:
        found[worker] = found.get(worker, 0.0) + 2.0**log2 * float(shares)
    return found, one.before_until_s - one.before_from_s


async def _play(size: Size) -> dict[str, Any]:
    async with begun(size) as it:
        return await Run(size, it).run()


def run(size: Size | None = None) -> dict[str, Any]:
    return trio.run(_play, Size() if size is None else size)


def section(result: dict[str, Any]) -> Section:
    size, plan, met = msgspec.convert(result["size"], type=Size), result["plan"], result["met"]
    held, restored, books = result["held"], result["restored"], result["books"]
    booked, true = books["booked"], books["true"]
    back = restored["back_after_s"]
    return Section(
        (
            f"{size.machines:,} simulated machines of all seven kinds of firmware at addresses of their own, "
            f"{size.liars} of which lie, {size.refusers} refuse, {size.late} take 20 s for an answer and "
            f"{size.sleepers} do not wake; before `angara run`, with 200 machines that no event asks. Of the "
            f"hour before, {size.before_s // 60} minutes are mined for, and the others are put into the "
            f"books as chance has them. They draw {_mw(result['before_watts'])}; the call is to "
            f"{_mw(result['limit_watts'])}, with a ramp of {size.ramp_s} s.\n",
            *table(
                ("what", "by the pool", "in truth", "the pool is off by"),
                [
                    ("drawn before", _mw(plan["before_watts"]), _mw(result["before_watts"]),
                     _off(plan["before_watts"], result["before_watts"])),
                    ("met, within the error that is stated", f"proven after {_s(met['proven_after_s'])}",
                     f"after {_s(met['met_after_s'])}", "-"),
                    ("less is drawn, while it lasts", _mw(held["proven_watts"]), _mw(held["true_watts"]),
                     _off(held["proven_watts"], held["true_watts"])),
                    ("machines that were off", f"{booked['machines_off']:,}", f"{true['machines']:,}",
                     _off(booked["machines_off"], true["machines"])),
                    ("for so long, all together", f"{booked['off_s'] / 3600:,.1f} h",
                     f"{true['off_s'] / 3600:,.1f} h", _off(booked["off_s"], true["off_s"])),
                    ("energy that was not drawn", f"{booked['joules_shed'] / 3.6e9:,.3f} MWh",
                     f"{true['joules'] / 3.6e9:,.3f} MWh", _off(booked["joules_shed"], true["joules"])),
                    ("revenue forgone, by the work of the hour before", f"{booked['forgone_sat']:,} sat",
                     f"{books['of_hour_before_sat']:,.0f} sat",
                     f"{_off(booked['forgone_sat'], books['of_hour_before_sat'])}, stated: "
                     f"{booked['error_sat'] / booked['forgone_sat']:.2%}"),
                    ("the same, by their hashrate", f"{booked['forgone_sat']:,} sat",
                     f"{books['of_hashrate_sat']:,.0f} sat",
                     _off(booked["forgone_sat"], books["of_hashrate_sat"])),
                    ("back, of those that wake", f"within {plan['restore_s']:,} s",
                     f"half after {_s(back.get('50'))}, 95 % after {_s(back.get('95'))}, all after "
                     f"{_s(back.get('all'))}", "-"),
                ],
            ),
            "\nFrom a share to its answer, of machines that no event asks and of those of the site, and "
            "connections that ended without being told to:\n",
            *table(
                ("", *(f"{it}, ms" for it in PERCENTILES.values()), "p99, ratio", "p99 of the site, ms",
                 "lost"),
                [_of_phase(name, result["phases"]) for name in PHASES],
            ),
        )
    )  # fmt: skip


def _of_phase(name: str, phases: Mapping[str, Any]) -> list[str]:
    it, before = phases[name], phases["before"]["ack_ms"]
    ack = it["ack_ms"]
    return [
        name,
        *(f"{ack[of]:.1f}" for of in PERCENTILES),
        f"{ack['p99'] / before['p99']:.2f}",
        f"{it['of_site_ack_ms']['p99']:.1f}",
        str(it["lost"]),
    ]


def _mw(watts: float) -> str:
    return f"{watts / 1e6:.3f} MW"


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f} s"


def _off(said: float, true: float) -> str:
    return f"{said / true - 1:+.2%}"


PART: Final = Part(title="A site is curtailed", seconds=1_500, run=run, section=section)
