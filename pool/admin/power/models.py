"""The operator's commands for nameplates: which models are known, and which machine is which.

Must not know: files, terminals.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, func, select

from payouts.schemas.power import power_nameplates
from pool.admin.command import Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.admin.power.now import power_changed
from pool.books.changes.changes import State
from pool.people.roles import Role
from pool.power.energy.models import models
from pool.power.energy.nameplates import NameplateView, NewNameplate, list_nameplates, set_nameplates

LINES_MAX: Final = 500  # of one import: a command has 64 KiB


class ModelKnown(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class ModelList(Paged, frozen=True, forbid_unknown_fields=True):
    """`everything`: also what was in force before."""

    container: str | None = None
    everything: bool = False


class ModelSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`container` is tenant.container; `unit` None: all of its units. `mj_per_th` over what W and TH/s come
    to. Nothing besides: from then on nothing is known. `from_s` is in an hour; None: the present one."""

    container: str
    unit: str | None = None
    model: str | None = None
    hashrate_ghs: int | None = None
    watts: int | None = None
    idle_watts: int | None = None
    mj_per_th: int | None = None
    error_bps: int | None = None
    from_s: int | None = None


class ModelImport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of them or none."""

    nameplates: tuple[NewNameplate, ...]
    from_s: int | None = None


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model and what its nameplate says; `source` is the page that it was read on."""

    model: str
    hashrate_ghs: int
    watts: int
    idle_watts: int
    mj_per_th: int
    error_bps: int
    source: str
    read_on: str


class ModelImported(msgspec.Struct, frozen=True):
    nameplates: int


def model_known(desk: Desk, it: ModelKnown) -> Page[ModelRow]:
    """Models whose nameplates are known, with the source of each."""
    rows = [ModelRow(**msgspec.structs.asdict(one), mj_per_th=one.mj_per_th) for one in models()]
    return page_of(it, rows, lambda row: (row.model,))


def model_list(desk: Desk, it: ModelList) -> Page[NameplateView]:
    """Which container and unit is which model, from when on."""
    rows = desk.read(
        lambda connection: list_nameplates(connection, container=it.container, everything=it.everything)
    )
    return page_of(it, rows, lambda row: (row.id,))


def model_set(desk: OperatorDesk, it: ModelSet) -> NameplateView:
    fields = msgspec.structs.asdict(it)
    from_s = fields.pop("from_s")
    new = NewNameplate(**fields)

    def change(connection: Connection) -> NameplateView:
        set_nameplates(connection, [new], by=desk.by, now_s=wall_s(), from_s=from_s)
        return max(
            list_nameplates(connection, container=it.container, everything=True), key=lambda row: row.id
        )

    view = desk.write(change)
    power_changed(desk)
    return view


def model_import(desk: OperatorDesk, it: ModelImport) -> ModelImported:
    """Set all of them, or none."""
    count = desk.write(
        lambda connection: set_nameplates(
            connection, it.nameplates, by=desk.by, now_s=wall_s(), from_s=it.from_s, rows_max=LINES_MAX
        )
    )
    power_changed(desk)
    return ModelImported(count)


def model_subject(it: ModelSet) -> str:
    return it.container if it.unit is None else f"{it.container}.{it.unit}"


def model_state(connection: Connection, subject: str) -> State:
    """The newest that was set of a container or a unit."""
    tenant, _, rest = subject.partition(".")
    found = [
        it
        for it in list_nameplates(connection)
        if it.tenant == tenant
        and rest == (it.container if it.unit is None else f"{it.container}.{it.unit}")
        and it.set_by != "container.set"
    ]
    return msgspec.to_builtins(max(found, key=lambda it: it.id)) if found else None


def all_models(it: ModelImport) -> str:
    return "models"


def models_state(connection: Connection, subject: str) -> State:
    count = select(func.count(), func.max(power_nameplates.c.id)).select_from(power_nameplates)
    there, newest = connection.execute(count).one()
    return {"nameplates": there, "newest": newest}


COMMANDS: Final[Commands] = {
    "model.known": Question(ModelKnown, model_known),
    "model.list": Question(ModelList, model_list),
    # What a machine draws by its work is what its tenant is charged for.
    "model.set": Guarded(ModelSet, model_set, model_subject, model_state, Role.PAYER, makes_books=False),
    "model.import": Guarded(
        ModelImport, model_import, all_models, models_state, Role.PAYER, makes_books=False
    ),
}
