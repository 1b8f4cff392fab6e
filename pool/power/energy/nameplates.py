"""Which machine is which model: set for a container or for one of its units, from an hour on.

Nothing is guessed: what nobody has set is not known, but for what the container's own nameplate comes to. An
hour that is over keeps what it had: what is set is in force from the beginning of the hour that it is set
in, at the earliest. Functions on a connection inside the caller's transaction, which must be the only writer.

Must not know: commands, files.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select

from payouts.book_time import book_time
from payouts.rates import BPS
from payouts.schemas.many import bound, selected
from payouts.schemas.money import containers, tenants
from payouts.schemas.power import power_nameplates
from pool.fleet.plates import HOUR_S
from pool.fleet.registry import NAME_CHARS_MAX
from pool.fleet.registry_error import RegistryError
from pool.power.energy.models import find_model, mj_per_th
from pool.power.energy.places import container_named
from pool.power.figures import MJ_PER_TH_MAX

WATTS_MAX: Final = 100_000  # of one machine: ten times the largest there is
GHS_MAX: Final = 10**7
ROWS_MAX: Final = 100_000  # of one import: all machines of a tenant


class NewNameplate(msgspec.Struct, frozen=True, kw_only=True):
    """To be set: a model's figures, those of one's own, or some of one's own over a model's. `unit` None: of
    all units of the container. `mj_per_th` is what was measured where it runs, over what W and TH/s come to.
    Nothing of it at all: from then on nothing is known by it."""

    container: str  # tenant.container
    unit: str | None = None
    model: str | None = None
    hashrate_ghs: int | None = None
    watts: int | None = None
    idle_watts: int | None = None
    mj_per_th: int | None = None
    error_bps: int | None = None
    source: str | None = None


class NameplateView(msgspec.Struct, frozen=True, kw_only=True):
    """One as it was set, of whatever hour. `mj_per_th` 0: nothing is known by it."""

    id: int
    tenant: str
    container: str
    unit: str | None
    from_s: int
    model: str | None
    hashrate_ghs: int
    watts: int
    idle_watts: int
    mj_per_th: int
    error_bps: int
    source: str
    set_at_s: int
    set_by: str


# Of figures of one's own nobody says how good they are: as good as a vendor's.
OWN_ERROR_BPS: Final = 1_000


def set_nameplates(
    connection: Connection,
    new: Sequence[NewNameplate],
    *,
    by: str,
    now_s: int,
    from_s: int | None = None,
    rows_max: int = ROWS_MAX,
) -> int:
    """Set all of them, from the present hour or a later one on; how many. Raises RegistryError."""
    if len(new) > rows_max:
        raise RegistryError(f"{rows_max} nameplates at most are set at once")
    now_s = book_time(connection, now_s)
    hour_s = now_s // HOUR_S * HOUR_S
    begins_s = hour_s if from_s is None else from_s // HOUR_S * HOUR_S
    if begins_s < hour_s:
        raise RegistryError(
            "a nameplate is in force from the present hour on at the earliest: what is over is over"
        )
    numbers: dict[str, int] = {}
    highest = connection.scalar(select(power_nameplates.c.id).order_by(power_nameplates.c.id.desc()).limit(1))
    rows = []
    for number, it in enumerate(new, (highest or 0) + 1):
        if it.container not in numbers:
            numbers[it.container] = container_named(connection, it.container)
        rows.append(
            {
                "id": number,
                "container_id": numbers[it.container],
                "scope": "container" if it.unit is None else "unit",
                "unit": it.unit,
                "from_s": begins_s,
                "set_at_s": now_s,
                "set_by": by,
                **_figures(it),
            }
        )
    if rows:
        names = [column.name for column in power_nameplates.columns]
        query = selected(power_nameplates, names)[connection.dialect.name]
        connection.execute(
            insert(power_nameplates).from_select(names, query, include_defaults=False), bound(rows)
        )
    return len(rows)


def _figures(it: NewNameplate) -> dict[str, int | str | None]:
    if it.unit is not None and (not it.unit.isprintable() or len(it.unit) > NAME_CHARS_MAX):
        raise RegistryError(f"a unit has at most {NAME_CHARS_MAX} printable characters")
    model = None if it.model is None else find_model(it.model)
    own = [it.hashrate_ghs, it.watts, it.idle_watts, it.mj_per_th, it.error_bps]
    if model is None and (it.hashrate_ghs is None) != (it.watts is None):
        raise RegistryError("figures of one's own are TH/s and W, both, or one of them over a model's")
    if model is None and it.hashrate_ghs is None:
        if any(figure is not None for figure in own):
            raise RegistryError("idle W, J/TH and an error are of a model, or of TH/s and W of one's own")
        nothing = dict.fromkeys(("hashrate_ghs", "watts", "idle_watts", "mj_per_th", "error_bps"), 0)
        return {**nothing, "model": None, "source": it.source or "nobody knows any more"}
    ghs = it.hashrate_ghs if it.hashrate_ghs is not None else model.hashrate_ghs if model else 0
    watts = it.watts if it.watts is not None else model.watts if model else 0
    idle = it.idle_watts if it.idle_watts is not None else model.idle_watts if model else 0
    error = it.error_bps if it.error_bps is not None else model.error_bps if model else OWN_ERROR_BPS
    if not (0 < ghs <= GHS_MAX and 0 < watts <= WATTS_MAX and 0 <= idle <= watts and 0 <= error <= BPS):
        raise RegistryError(
            f"a machine has up to {GHS_MAX // 1000} TH/s and {WATTS_MAX} W, draws no more when it is paused,"
            " and an error is 0 to 100 percent"
        )
    if it.mj_per_th is not None and not 0 < it.mj_per_th <= MJ_PER_TH_MAX:
        raise RegistryError(f"a terahash takes something, and at most {MJ_PER_TH_MAX // 1000} J")
    source = "figures of one's own" if model is None else model.source
    if model is not None and any(figure is not None for figure in own):
        source = f"own figures over {source}"
    return {
        "model": None if model is None else model.model,
        "hashrate_ghs": ghs,
        "watts": watts,
        "idle_watts": idle,
        "mj_per_th": mj_per_th(watts, ghs) if it.mj_per_th is None else it.mj_per_th,
        "error_bps": error,
        "source": it.source or source,
    }


def list_nameplates(
    connection: Connection, *, container: str | None = None, everything: bool = False
) -> tuple[NameplateView, ...]:
    """The newest of each container and unit, also those that have not begun; or all there ever were. What the
    container's own nameplate comes to is among them, by its source."""
    of = power_nameplates.c
    query = (
        select(power_nameplates, tenants.c.name.label("tenant"), containers.c.name.label("container"))
        .join(containers, containers.c.id == of.container_id)
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .order_by(of.from_s, of.id)
    )
    if container is not None:
        query = query.where(of.container_id == container_named(connection, container))
    views: dict[object, NameplateView] = {}
    for row in connection.execute(query):
        named = {name: getattr(row, name) for name in NameplateView.__struct_fields__}
        key = row.id if everything else (row.container_id, row.scope, row.unit)
        views[key] = NameplateView(**named)
    return tuple(sorted(views.values(), key=lambda it: (it.tenant, it.container, it.unit or "", it.id)))
