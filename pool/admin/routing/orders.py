"""The operator's commands for orders, each once: with a running pool, and without one.

Must not know: sockets, terminals.
"""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from payouts.receipts.extension import Extension, extensions
from payouts.receipts.hours import HOUR_S
from payouts.receipts.making_good import MakeGood, Tolerance
from payouts.receipts.receipt import Receipt
from payouts.receipts.rows import Billed, billed, receipts
from payouts.sales.billing import Billing
from payouts.sales.prepaid import Cover, covers
from payouts.sales.terms import DUE_DAYS, BillingTerms
from pool.admin.command import Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, named, routes_changed, valid, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.books.changes.changes import LATEST_S, State
from pool.books.journal.positions import booked_until_s
from pool.orders import rows as order_store
from pool.orders.rows import NewOrder, OrderView
from pool.orders.status import OrderStatus
from pool.people.roles import Role

RECEIPTS_MAX: Final = 500  # of an answer: a month is 720
EXTENSION_H: Final = 7 * 24  # where nothing else is said


class OrderAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`from_s` None: now. `due_days` None: 14, where it is billed and not `prepaid`; `stop_days` None: it
    does not stop. `tolerances` of what is made good, none: `tolerance_bps` over a day. `extension_h` None: a
    week, where that is by an extension."""

    name: str
    buyer: str
    upstream: str
    hashrate_ths: int
    tolerance_bps: int = 200
    from_s: int | None = None
    until_s: int
    priority: int = 50
    sat_per_ph_day: int
    tenants: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    billing: Billing = Billing.NONE
    due_days: int | None = None
    stop_days: int | None = None
    prepaid: bool = False
    make_good: MakeGood = MakeGood.NONE
    tolerances: tuple[Tolerance, ...] = ()
    extension_h: int | None = None


class OrderList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class OrderShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class OrderEnd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class OrderReceipts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From a number on; of hours that begin at or after `from_s`, and before `until_s`."""

    name: str
    first: Annotated[int, msgspec.Meta(ge=1)] = 1
    from_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    until_s: Annotated[int, msgspec.Meta(ge=0, le=LATEST_S)] = LATEST_S


class Receipts(msgspec.Struct, frozen=True):
    """In their order. `next`: the first of the rest; null where that is all."""

    receipts: tuple[Receipt, ...]
    next: int | None


class OrderRow(OrderView, frozen=True, kw_only=True):
    """With its state, planned, running, short, stopped, extended or ended; what a running pool measures of
    it; and, of one alone, what its receipts come to. `extension` of one that owes work, of which 65,535 are a
    hash. `cover` of one that is prepaid."""

    state: str
    supply_hps: float | UnsetType = UNSET
    shortage_hps: float | UnsetType = UNSET
    machines: int | UnsetType = UNSET
    moving: int | UnsetType = UNSET
    receipts: Billed | UnsetType = UNSET
    extension: Extension | UnsetType = UNSET
    cover: Cover | UnsetType = UNSET


class Going(msgspec.Struct, frozen=True):
    """Orders by number: those that stopped, those that owe work at or past their end, and what covers those
    that are prepaid."""

    stopped: frozenset[int]
    owing: dict[int, Extension]
    covers: dict[int, Cover]


def order_add(desk: OperatorDesk, it: OrderAdd) -> OrderRow:
    now_s = wall_s()
    over_a_day = (Tolerance(it.tolerance_bps, 24),) if it.make_good is not MakeGood.NONE else ()
    new = valid(
        lambda: NewOrder(
            name=it.name,
            buyer=it.buyer,
            upstream=it.upstream,
            hashrate_ths=it.hashrate_ths,
            tolerance_bps=it.tolerance_bps,
            from_s=now_s if it.from_s is None else it.from_s,
            until_s=it.until_s,
            priority=it.priority,
            sat_per_ph_day=it.sat_per_ph_day,
            tenants=it.tenants,
            containers=it.containers,
            billing=_billing(it),
            make_good=it.make_good,
            tolerances=it.tolerances or over_a_day,
            extension_h=_extension_h(it),
        )
    )
    desk.write(lambda connection: order_store.add_order(connection, new, by=desk.by, now_s=now_s))
    routes_changed(desk)
    return order_show(desk, OrderShow(it.name))


def order_list(desk: Desk, it: OrderList) -> Page[OrderRow]:
    """All there ever were; with what is delivered now where a pool runs."""
    measured = _measured(desk)
    going = desk.read(_going)
    rows = [_order(view, measured, going) for view in desk.read(order_store.list_orders)]
    return page_of(it, rows, lambda row: (row.id,))


def order_show(desk: Desk, it: OrderShow) -> OrderRow:
    def read(connection: Connection) -> tuple[OrderView, Billed]:
        view = order_store.find_order(connection, it.name)
        return view, billed(connection, view.id)

    view, sums = desk.read(read)
    row = _order(view, _measured(desk), desk.read(_going))
    return msgspec.structs.replace(row, receipts=sums)


def order_end(desk: OperatorDesk, it: OrderEnd) -> OrderRow:
    desk.write(lambda connection: order_store.end_order(connection, it.name, by=desk.by, now_s=wall_s()))
    routes_changed(desk)
    return order_show(desk, OrderShow(it.name))


def order_receipts(desk: Desk, it: OrderReceipts) -> Receipts:
    """What every hour of the order came to: a chain of receipts, signed where the pool has a key."""

    def read(connection: Connection) -> Receipts:
        order = order_store.find_order(connection, it.name)
        hours = -(-it.from_s // HOUR_S), -(-it.until_s // HOUR_S)
        found = receipts(connection, order.id, it.first, RECEIPTS_MAX + 1, hours)
        more = found[RECEIPTS_MAX].number if len(found) > RECEIPTS_MAX else None
        return Receipts(found[:RECEIPTS_MAX], more)

    return desk.read(read)


def order_state(connection: Connection, subject: str) -> State:
    views = (view for view in order_store.list_orders(connection) if view.name == subject)
    return next((msgspec.to_builtins(view) for view in views), None)


def _billing(it: OrderAdd) -> BillingTerms:
    """Raises ValueError."""
    usual = DUE_DAYS if it.billing is not Billing.NONE and not it.prepaid else 0
    return BillingTerms(
        billing=it.billing,
        due_days=usual if it.due_days is None else it.due_days,
        stop_days=it.stop_days,
        prepaid=it.prepaid,
    )


def _extension_h(it: OrderAdd) -> int:
    usual = EXTENSION_H if it.make_good is MakeGood.EXTENSION else 0
    return usual if it.extension_h is None else it.extension_h


def _going(connection: Connection) -> Going:
    now_s, booked_s = wall_s(), booked_until_s(connection)
    return Going(
        order_store.all_stopped(connection, now_s),
        extensions(connection, now_s, booked_s),
        covers(connection, now_s, booked_s),
    )


def _order(view: OrderView, measured: dict[int, OrderStatus], going: Going) -> OrderRow:
    now_s = wall_s()
    status = measured.get(view.id)
    figures = {} if status is None else msgspec.structs.asdict(status)
    figures.pop("order_id", None)
    if view.over(now_s) or (view.until_s <= now_s and view.id not in going.owing):
        state = "ended"
    elif view.id in going.stopped:
        state = "stopped"
    elif view.from_s > now_s:
        state = "planned"
    elif view.until_s <= now_s:
        state = "extended"
    else:
        state = "short" if status is not None and status.shortage_hps > 0 else "running"
    return OrderRow(
        **msgspec.structs.asdict(view),
        state=state,
        **figures,
        extension=going.owing.get(view.id, UNSET),
        cover=going.covers.get(view.id, UNSET),
    )


def _measured(desk: Desk) -> dict[int, OrderStatus]:
    """What the allocator says of each order, by its number; nothing without a running pool."""
    if desk.live is None:
        return {}
    return {status.order_id: status for status in desk.live.order_status()}


COMMANDS: Final[Commands] = {
    "order.add": Guarded(OrderAdd, order_add, named, order_state, Role.PAYER),
    "order.list": Question(OrderList, order_list),
    "order.show": Question(OrderShow, order_show),
    "order.receipts": Question(OrderReceipts, order_receipts),
    "order.end": Guarded(OrderEnd, order_end, named, order_state, Role.PAYER),
}
