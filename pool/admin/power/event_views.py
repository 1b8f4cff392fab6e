"""What is asked about events of curtailment, and what is answered. Must not know: how it is found out."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from pool.admin.pages import Paged
from pool.power.curtailment.events import Event
from pool.power.curtailment.plan import TenantLoss

TargetName = Literal["limit", "share", "everything", "break_even"]
USUAL_RAMP_S: Final = 600


class PowerPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`target_value`: W of a limit, bps of a share, millisatoshi of a kWh (None: the tariff's)."""

    target: TargetName
    target_value: int | None = None
    site: str = ""
    ramp_s: int = USUAL_RAMP_S


class PowerCurtail(PowerPlan, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`from_s` None: now. `reference`: the same again is the same event; None: one that nobody has."""

    from_s: int | None = None
    until_s: int | None = None
    reference: str | None = None
    dry_run: bool = False
    source: Literal["cli", "api"] = "api"


class PowerRestore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    event: int


class PowerRelease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`machine` None: all of the event's. As tenant.container.unit."""

    event: int
    machine: str | None = None


class PowerList(Paged, frozen=True, forbid_unknown_fields=True):
    """`everything`: also those that are over."""

    everything: bool = False


class PowerShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    event: int


class BatchView(msgspec.Struct, frozen=True, kw_only=True):
    """So many machines, so long after the beginning."""

    after_s: int
    machines: int


class OrderShort(msgspec.Struct, frozen=True, kw_only=True):
    """An order that is under its tolerance without the machines that would be off."""

    order: str
    short_hps: float


class TenantForgoes(TenantLoss, frozen=True, kw_only=True):
    """What one tenant does not mine meanwhile, and what an hour of that is worth by the pool's own price of
    now, before its fee; None where nobody was paid for work yet."""

    sat_per_hour: int | None


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done. Nothing was sent. `other_watts` of `before_watts` are drawn by what is no machine,
    by the meters `other_by`, where those of the site count; `limit_watts` is in force there, and lower than
    what was asked for."""

    site: str
    target: str
    before_watts: int
    other_watts: int
    other_by: str
    limit_watts: int | None
    asked_watts: int
    shed_watts: int
    expected_watts: int
    error_watts: int
    short_watts: int
    machines: int
    batches: tuple[BatchView, ...]
    losses: tuple[TenantForgoes, ...]
    exempt_machines: int
    exempt_watts: int
    taken_machines: int
    unknown_machines: int
    unknown_asked: int
    ramp_s: int
    restore_s: int
    orders_short: tuple[OrderShort, ...] = ()


class EventRow(Event, frozen=True, kw_only=True):
    """With how many machines are in which state; while it goes on, `unknown_off` of the `unknown_machines` of
    unknown power are off."""

    machines: Mapping[str, int]
    unknown_machines: int = 0
    unknown_off: int = 0


class MachineView(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of an event."""

    machine: str
    state: str
    batch: int
    watts_before: int
    watts_idle: int
    asks: int
    changed_at_s: int
    off_from_s: int | None
    off_until_s: int | None


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened."""

    step: int
    at_s: int
    machine: str | None
    state: str
    words: str


class EventAsked(EventRow, frozen=True, kw_only=True):
    """With the orders that are under their tolerance without its machines: those that it has, or before it
    begins those that it would ask now. None where no pool runs, which delivers none."""

    orders_short: tuple[OrderShort, ...] = ()


class EventView(EventAsked, frozen=True, kw_only=True):
    """With its machines, those first that are not as they should be, and the newest steps."""

    of_machines: tuple[MachineView, ...]
    steps: tuple[StepView, ...]
