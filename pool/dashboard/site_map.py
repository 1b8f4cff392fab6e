"""The site map: every machine's state and hashrate, looked at once for all, every five seconds at most.

What is shown is what was *told*: a cell changes when its state does, or when its hashrate has moved by a
tenth. So a browser with version N and the changes from N to N+1 has the map of version N+1, and chance alone
does not send the whole map again every five seconds.

Invariants: nobody waits for a look of more than a piece of it; of changes at most CHANGES_MAX are told at a
time, states first, and the rest the next time. Must not know: who looks.
"""

import secrets
import time
import zlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
import trio

from pool.dashboard.machine_states import FIVE_MINUTES, OFFLINE, Floats, Letters, letters
from pool.dashboard.places import NOWHERE, Ints, Place, Places, lay_out, rest
from pool.fleet.hashrate import COUNTS, HashrateBook, MachineLooks
from pool.fleet.registry import Registry
from pool.messages.conditions import Thresholds

LOOK_S: Final = 5.0  # between two looks; hashrates are no newer either
LAYOUT_S: Final = 10.0  # between two layouts: machines come all the time at a start, and each is a new map
PIECE: Final = 1_024  # machines: a quarter of a millisecond
CONTAINERS_PIECE: Final = 16  # written in a millisecond, of 400 machines each
MOVED_SHARE: Final = 0.1  # of the hashrate that is shown; less is chance
CHANGES_MAX: Final = 4_096  # 80 KB for everybody who looks; a whole container is 400
BODIES_MAX: Final = 32  # narrowed and packed maps that are kept, 200 KB each
PACKED_LEVEL: Final = 5  # a fifth of the size in 10 ms; what a thread does there needs no interpreter
THS: Final = 1e12

Rounded = np.ndarray[Any, np.dtype[np.int64]]


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """Of some machines: all, or a tenant's."""

    hashrate_hps: float
    machines: dict[str, int]  # by letter
    shares: dict[str, int]  # since the pool began


class MapContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A container, and its machines by columns: in `states` a letter each."""

    name: str
    tenant: str
    site: str | None
    nameplate_ths: float | None
    machine_ths: float | None
    units: tuple[str, ...]
    states: str
    ths: list[int]
    unseen: int  # that its nameplate counts and that have never come


class MapShown(msgspec.Struct, frozen=True, kw_only=True):
    """The map as it is sent."""

    at_s: int
    version: str
    containers: list[MapContainer]


class Cells(msgspec.Struct, frozen=True, kw_only=True):
    """What changed since the version `base`: container, machine, state, TH/s. Without one: get it anew."""

    version: str
    base: str | None
    changes: list[tuple[int, int, str, int]]


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """From one version to the next. `base` None: machines are new or gone, and nothing holds any more."""

    version: int
    base: int | None
    places: Places
    cells: Ints  # indexes of machines
    letters: bytes
    ths: tuple[int, ...]


class SiteMap:
    """`version` grows with each look that changes something; `boot` tells the maps of this run apart."""

    def __init__(
        self,
        registry: Registry,
        hashrates: HashrateBook,
        thresholds: Thresholds,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.places = NOWHERE
        self.version = 0
        self.boot = secrets.token_hex(3)
        self.at_s = 0
        self.looked_s = -np.inf
        self.letters: Letters = np.zeros(0, dtype=np.uint8)
        self.ths: Rounded = np.zeros(0, dtype=np.int64)
        self.total = Total(hashrate_hps=0.0, machines={}, shares={})
        self.tenants: dict[str, Total] = {}
        self.on_change: list[Callable[[Changes], None]] = []  # whoever looked
        self.thresholds = thresholds  # from the next look on, where they are others
        self._registry, self._hashrates = registry, hashrates
        self._wall_clock = wall_clock
        self._laid_out_s = -np.inf
        self._one_at_a_time = trio.Lock()
        self._fragments: list[bytes] = []
        self._stale: set[int] = set()  # containers whose fragments are of a version before
        self._bodies: dict[tuple[str | None, bool], tuple[int, bytes]] = {}

    @property
    def name(self) -> str:
        """Of the version, for whoever keeps a map."""
        return f"{self.boot}-{self.version}"

    async def look(self) -> Changes | None:
        """Look again, where the last time is LOOK_S ago; what has changed by that."""
        async with self._one_at_a_time:
            now_s = trio.current_time()
            if now_s - self.looked_s < LOOK_S:
                return None
            at_s, places = int(self._wall_clock()), self.places
            anew = places.generation != self._registry.generation
            anew = anew and now_s - self._laid_out_s >= LAYOUT_S
            if anew:
                places = await lay_out(self._registry, places)
            found, ths = await self._looked(places, now_s)
            # At once: whoever asked may have left by here, and his look is none then.
            self.looked_s, self.at_s = now_s, at_s
            changes = self._begin_anew(places, found, ths) if anew else self._changed(found, ths)
            if changes is not None:
                for told in self.on_change:
                    told(changes)
            return changes

    async def _looked(self, places: Places, now_s: float) -> tuple[Letters, Rounded]:
        found, rates = np.zeros(len(places), dtype=np.uint8), np.zeros(len(places))
        sums = _Sums(len(places.tenants))
        for at in range(0, len(places), PIECE):
            piece = slice(at, at + PIECE)
            looks = self._hashrates.look(places.numbers[piece], now_s)
            found[piece] = letters(looks, places.nameplates_hps[piece], self.thresholds)
            rates[piece] = looks.rates_hps[:, FIVE_MINUTES]
            sums.add(looks, found[piece], places.tenant_of[piece])
            await rest()
        for at in range(0, len(places.others), PIECE):
            piece = slice(at, at + PIECE)
            looks = self._hashrates.look(places.others[piece], now_s)
            unnamed = np.full(len(looks.ages_s), np.nan)
            sums.add(looks, letters(looks, unnamed, self.thresholds), places.others_tenant_of[piece])
            await rest()
        self.total, self.tenants = sums.total(), sums.by_tenant(places.tenants)
        rates[found == OFFLINE] = 0.0
        return found, np.rint(rates / THS).astype(np.int64)

    def _begin_anew(self, places: Places, found: Letters, ths: Rounded) -> Changes:
        self.version += 1
        self._laid_out_s = self.looked_s
        self.places, self.letters, self.ths = places, found, ths
        self._fragments = [b""] * len(self.places.all)
        self._stale = set(range(len(self.places.all)))
        self._bodies.clear()
        nothing = np.zeros(0, dtype=np.intp)
        return Changes(
            version=self.version, base=None, places=self.places, cells=nothing, letters=b"", ths=()
        )

    def _changed(self, found: Letters, ths: Rounded) -> Changes | None:
        other = found != self.letters
        moved = ~other & (np.abs(ths - self.ths) > np.maximum(1, self.ths * MOVED_SHARE))
        cells = np.concatenate((np.flatnonzero(other), np.flatnonzero(moved)))[:CHANGES_MAX]
        if not len(cells):
            return None
        self.version += 1
        self.letters[cells], self.ths[cells] = found[cells], ths[cells]
        self._stale.update(np.unique(self.places.container_of[cells]).tolist())
        self._bodies.clear()
        return Changes(
            version=self.version,
            base=self.version - 1,
            places=self.places,
            cells=cells,
            letters=found[cells].tobytes(),
            ths=tuple(ths[cells].tolist()),
        )

    # As bytes

    async def body(self, tenant: str | None, *, packed: bool) -> tuple[str, bytes]:
        """The map as JSON, and its version's name: everybody's, or a tenant's; in gzip's form."""
        async with self._one_at_a_time:
            version, made = self._bodies.get((tenant, packed), (0, b""))
            if version == self.version and made:
                return self.name, made
            await self._write_fragments()
            head = b'{"at_s":%d,"version":"%s","containers":[' % (self.at_s, self.name.encode())
            places = self.places.all
            body = head + b",".join(self._fragments[at] for at in indexes_of(places, tenant)) + b"]}"
            if packed:
                body = await trio.to_thread.run_sync(_packed, body)
            if len(self._bodies) >= BODIES_MAX:
                del self._bodies[next(iter(self._bodies))]
            self._bodies[tenant, packed] = self.version, body
            return self.name, body

    async def _write_fragments(self) -> None:
        for done, at in enumerate(sorted(self._stale)):
            self._fragments[at] = self._fragment(at)
            if done % CONTAINERS_PIECE == CONTAINERS_PIECE - 1:
                await rest()
        self._stale.clear()

    def _fragment(self, at: int) -> bytes:
        place, cells = self.places.all[at], slice(self.places.starts[at], self.places.starts[at + 1])
        return msgspec.json.encode(
            MapContainer(
                name=place.container.name,
                tenant=place.tenant,
                site=place.container.site,
                nameplate_ths=place.container.ths,
                machine_ths=place.machine_ths,
                units=place.units,
                states=self.letters[cells].tobytes().decode(),
                ths=self.ths[cells].tolist(),
                unseen=place.unseen,
            )
        )


def indexes_of(places: tuple[Place, ...], tenant: str | None) -> list[int]:
    """Of the containers that somebody sees."""
    return [at for at, it in enumerate(places) if tenant in (None, it.tenant)]


def changes_for(changes: Changes, boot: str, tenant: str | None) -> Cells:
    """As whoever sees a tenant's map alone, or the whole, is told them."""
    places = changes.places
    seen = {at: here for here, at in enumerate(indexes_of(places.all, tenant))}
    containers = places.container_of[changes.cells].tolist()
    machines = (changes.cells - places.starts[places.container_of[changes.cells]]).tolist()
    told = zip(containers, machines, changes.letters.decode(), changes.ths, strict=True)
    return Cells(
        version=f"{boot}-{changes.version}",
        base=None if changes.base is None else f"{boot}-{changes.base}",
        changes=[(seen[at], machine, letter, ths) for at, machine, letter, ths in told if at in seen],
    )


def _packed(body: bytes) -> bytes:
    packer = zlib.compressobj(PACKED_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


class _Sums:
    """By tenant."""

    def __init__(self, tenants: int) -> None:
        self._rates: Floats = np.zeros(tenants)
        self._states = {letter: np.zeros(tenants) for letter in b"msro"}
        self._counts = np.zeros((tenants, len(COUNTS)))

    def add(self, looks: MachineLooks, found: Letters, tenant_of: Ints) -> None:
        size = len(self._rates)
        self._rates += np.bincount(tenant_of, looks.rates_hps[:, FIVE_MINUTES], size)
        for letter, states in self._states.items():
            states += np.bincount(tenant_of, found == letter, size)
        for column in range(len(COUNTS)):
            self._counts[:, column] += np.bincount(tenant_of, looks.counts[:, column], size)

    def by_tenant(self, names: tuple[str, ...]) -> dict[str, Total]:
        return {name: self._of(slice(at, at + 1)) for at, name in enumerate(names)}

    def total(self) -> Total:
        return self._of(slice(None))

    def _of(self, tenants: slice) -> Total:
        return Total(
            hashrate_hps=float(self._rates[tenants].sum()),
            machines={chr(letter): int(it[tenants].sum()) for letter, it in self._states.items()},
            shares=dict(
                zip(COUNTS, self._counts[tenants].sum(axis=0).astype(np.int64).tolist(), strict=True)
            ),
        )
