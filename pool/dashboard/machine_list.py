"""The list of machines: searched, filtered and sorted over live figures, a page at a time.

A page goes on behind a machine, by what it is sorted by and its number: figures move between two pages, so
one may be seen twice, or not, where it has just changed its place.

Invariants: nothing is asked of the database; a look through all of them is done in pieces. Must not know: who
asks.
"""

import base64
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import trio
from msgspec import Meta

from pool.dashboard.machine_states import FIVE_MINUTES, HOUR, WORDS, Letters, letters, rejected_share
from pool.dashboard.places import Ints, Places, full_name, rest
from pool.dashboard.site_map import SiteMap
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry

LIMIT_MAX: Final = 200  # a row is five microseconds
PIECE: Final = 1_024  # machines: half a millisecond
NEVER_S: Final = 1e9  # since its last share, of who had none

Sort = Literal["name", "hashrate", "-hashrate", "rejected", "-rejected", "seen", "-seen"]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which machines. `state`: letters of those that are wanted; `sort`: with - from the highest down."""

    search: Annotated[str, Meta(max_length=100)] = ""
    state: Annotated[str, Meta(pattern="^[msro]*$", max_length=4)] = ""
    container: Annotated[str, Meta(max_length=100)] | None = None
    tenant: Annotated[str, Meta(max_length=100)] | None = None
    sort: Sort = "name"
    cursor: Annotated[str, Meta(max_length=100)] = ""
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = 100


class MachineRow(msgspec.Struct, frozen=True, kw_only=True):
    """One machine. Hashrates are of five minutes and of an hour; `rejected` of its work, 0 to 1."""

    name: str
    tenant: str
    container: str
    site: str | None
    state: str
    hashrate_hps: int
    hashrate_1h_hps: int
    nameplate_ths: float | None
    rejected: float
    accepted: int
    share_age_s: float | None
    agent: str | None
    difficulty_log2: int | None


class MachinePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of them: `found` in all, and where those behind these begin."""

    machines: list[MachineRow]
    found: int
    cursor: str | None


class BadCursor(ValueError):
    """In words."""


class MachineList:
    """Of one pool."""

    def __init__(self, site_map: SiteMap, registry: Registry, hashrates: HashrateBook) -> None:
        self._map, self._registry, self._hashrates = site_map, registry, hashrates
        self._one_at_a_time = trio.Lock()  # whoever asks for many waits for himself, and no miner for him

    async def page(self, asked: Asked) -> MachinePage:
        """Rows, how many there are of this kind, and where the next ones begin. Raises BadCursor."""
        async with self._one_at_a_time:
            return await self._page(asked)

    async def _page(self, asked: Asked) -> MachinePage:
        await self._map.look()
        # As of here: while others have their turn there may be another map, with others in these places.
        places, states, now_s = self._map.places, self._map.letters, trio.current_time()
        wanted = await _wanted(places, states, asked)
        values = np.zeros(len(wanted))
        for at in range(0, len(wanted), PIECE) if asked.sort != "name" else ():
            piece = wanted[at : at + PIECE]
            values[at : at + PIECE] = self._values(places.numbers[piece], asked.sort, now_s)
            await rest()
        order = np.argsort(values, kind="stable")
        if asked.cursor:
            value, index = _parsed(asked.cursor)
            behind = (values > value) | ((values == value) & (wanted > index))
            order = order[behind[order]]
        shown = order[: asked.limit]
        more = len(order) > len(shown)
        last = shown[-1] if len(shown) else 0
        return MachinePage(
            machines=self.rows(places, wanted[shown], now_s),
            found=len(wanted),
            cursor=_cursor(float(values[last]), int(wanted[last])) if more else None,
        )

    def _values(self, numbers: Ints, sort: Sort, now_s: float) -> Any:
        looks = self._hashrates.look(numbers, now_s)
        by = {
            "hashrate": looks.rates_hps[:, FIVE_MINUTES],
            "rejected": rejected_share(looks),
            "seen": np.minimum(looks.ages_s, NEVER_S),
        }
        values = by[sort.removeprefix("-")]
        return -values if sort.startswith("-") else values

    def rows(self, places: Places, indexes: Ints, now_s: float) -> list[MachineRow]:
        """Of these machines, by their places on that map."""
        looks = self._hashrates.look(places.numbers[indexes], now_s)
        states = letters(looks, places.nameplates_hps[indexes], self._map.thresholds).tobytes().decode()
        rejected = rejected_share(looks)
        told = []
        for at, index in enumerate(indexes.tolist()):
            place = places.all[places.container_of[index]]
            worker = self._registry.workers.get(int(places.numbers[index]))
            age_s = float(looks.ages_s[at])
            told.append(
                MachineRow(
                    name=places.name_of(index),
                    tenant=place.tenant,
                    container=place.container.name,
                    site=place.container.site,
                    state=WORDS[states[at]],
                    hashrate_hps=round(float(looks.rates_hps[at, FIVE_MINUTES])),
                    hashrate_1h_hps=round(float(looks.rates_hps[at, HOUR])),
                    nameplate_ths=place.machine_ths,
                    rejected=round(float(rejected[at]), 4),
                    accepted=int(looks.counts[at, 0]),
                    share_age_s=round(age_s, 1) if np.isfinite(age_s) else None,
                    agent=None if worker is None else worker.agent,
                    difficulty_log2=None if worker is None else worker.difficulty_log2,
                )
            )
        return told


async def _wanted(places: Places, states: Letters, asked: Asked) -> Ints:
    search = asked.search.lower()
    found: list[Ints] = []
    for at, place in enumerate(places.all):
        if asked.tenant not in (None, place.tenant):
            continue
        if asked.container not in (None, place.container.name):
            continue
        cells = np.arange(places.starts[at], places.starts[at + 1])
        for first in range(0, len(cells), PIECE) if search else ():
            units = place.units[first : first + PIECE]
            prefix = full_name(place.tenant, place.container.name, "")
            others = [search not in f"{prefix}.{unit}".lower() for unit in units]
            cells[first : first + PIECE][others] = -1
            await rest()
        found.append(cells[cells >= 0])
    wanted: Ints = np.concatenate([np.zeros(0, dtype=np.intp), *found])
    if asked.state:
        wanted = wanted[np.isin(states[wanted], np.frombuffer(asked.state.encode(), np.uint8))]
    return wanted


def _cursor(value: float, index: int) -> str:
    return base64.urlsafe_b64encode(f"{value!r} {index}".encode()).decode()


def _parsed(cursor: str) -> tuple[float, int]:
    try:
        value, index = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        return float(value), int(index)
    except (ValueError, UnicodeError):
        raise BadCursor("cursor: not one that was given") from None
