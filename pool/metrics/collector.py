"""Where each metric is read: off what those who serve miners say at the moment of the scrape, and the books.

Nothing is counted for it share by share. It is done in pieces, and others have their turn between them.
Must not know: how it is asked for, and in which form it leaves.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Final

import msgspec
import numpy as np
import trio

from payouts.ledger import in_payout, payable
from payouts.sales.receivables import Receivables
from pool.books.edges.watch import HubFigures, no_edges
from pool.edges.edges import Edges
from pool.edges.figures import Answer, EdgeFigures
from pool.fleet.hashrate import (
    COLUMN_OF_VERDICT,
    COUNTS,
    ContainerLook,
    HashrateBook,
    Unheard,
    everybody_is_heard,
)
from pool.fleet.registry import Registry
from pool.metrics.book_figures import BookFigures, BookReader
from pool.metrics.contract import OTHERS, Page
from pool.metrics.power import add_events, add_held, add_power, add_signals
from pool.orders.status import OrderStatus
from pool.power.control.held import Standing
from pool.power.curtailment.status import NO_EVENTS, PowerStatus
from pool.power.energy.live import PowerNow
from pool.power.signals.intake import Source
from pool.readiness import Readiness
from pool.routing.status import RouteStatus
from pool.upstreams.status import UpstreamStatus
from pool.web.door import Door
from stratum._engine import backend
from stratum.histogram import Histogram
from stratum.miners.uncharged import REFUSED, UNREADABLE

VERSION: Final = version("angara")  # what runs, whatever has been installed since; a file is read for it
# Series of a label at most: the rest is summed up under OTHERS. The oldest come first, so that nobody is put
# there by who invents names, and a series stays where it is.
TENANTS_MAX: Final = 256
SITES_MAX: Final = 256
CONTAINERS_MAX: Final = 1_024  # up to four series each
ORDERS_MAX: Final = 256
UPSTREAMS_MAX: Final = 256
EDGES_MAX: Final = 256  # each has a part of the numbers, of which there are as many


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Whom figures are asked of: those who serve miners, and what a pool has once. A hub has edges at other
    sites, and machines there of which it may not be known what they do."""

    edges: Edges
    registry: Registry
    hashrates: HashrateBook
    folds: Histogram
    kept_blocks: Callable[[], int] = lambda: 0  # of upstreams
    settlements: Histogram
    readiness: Readiness
    door: Door
    figures: BookReader
    hub: Callable[[], HubFigures] = no_edges
    unheard: Unheard = everybody_is_heard
    power: Callable[[], Awaitable[PowerNow]]
    curtailment: Callable[[], PowerStatus] = lambda: NO_EVENTS
    held: Callable[[], Standing] = Standing
    signals: Callable[[], Sequence[Source]] = tuple


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What is told: of the sources, and what those who serve miners said just now."""

    sources: Sources
    edges: EdgeFigures
    routes: RouteStatus
    power: PowerNow


async def collect(sources: Sources) -> Page:
    """All that is known now."""
    page = Page()
    sources.figures.want()
    edges, routes = await sources.edges.now()
    moment = Moment(sources=sources, edges=edges, routes=routes, power=await sources.power())
    for section in SECTIONS:
        section(page, moment)
        await trio.lowlevel.checkpoint()
    return page


def _pool(page: Page, it: Moment) -> None:
    page.add("angara_build_info", 1, VERSION, backend)
    edges, door, processes = it.edges, it.sources.door, it.sources.edges.processes()
    for condition in it.sources.readiness.conditions(edges, processes):
        page.add("angara_ready", condition.good, condition.name)
    page.add("angara_processes", processes.serving, "serving")
    page.add("angara_processes", processes.of - processes.serving, "away")
    page.add("angara_process_deaths_total", processes.died)
    for standing, count in edges.sessions.items():
        page.add("angara_sessions", count, standing)
    for name, family in edges.firmware.items():  # FAMILIES of ours, whatever strangers say
        page.add("angara_firmware_sessions", family.here, name)
        page.add("angara_firmware_shares_total", family.accepted, name, "accepted")
        page.add("angara_firmware_shares_total", family.rejected, name, "rejected")
    page.add("angara_sv2_connections", edges.sv2.connections)
    page.add("angara_sv2_channels", edges.sv2.channels)
    page.add("angara_sv2_handshakes_total", edges.sv2.handshakes)
    for reason, count in sorted(edges.ended.items()):
        page.add("angara_connections_ended_total", count, reason)
    page.add("angara_web_connections", door.limits.sessions)
    for reason, count in sorted(door.refused.items()):
        page.add("angara_web_connections_refused_total", count, reason)
    for kind, count in edges.moved.items():
        page.add("angara_moves_total", count, kind)
    page.add("angara_unresolved_shares", edges.unresolved)
    page.add("angara_upstream_kept_blocks", it.sources.kept_blocks())


def _durations(page: Page, it: Moment) -> None:
    edges = it.edges
    page.add_histogram("angara_acknowledgement_seconds", edges.acknowledgements)
    page.add_histogram("angara_commit_seconds", edges.commits)
    page.add_histogram("angara_fold_seconds", it.sources.folds)
    page.add_histogram("angara_settlement_seconds", it.sources.settlements)
    page.add_histogram("angara_block_distribution_seconds", edges.distributions)
    page.add("angara_commit_wait_seconds", edges.commit_age_s or 0.0)
    page.add("angara_journal_unfolded_batches", edges.unfolded)
    page.add("angara_journal_unfolded_age_seconds", edges.unfolded_age_s or 0.0)


def _nodes(page: Page, it: Moment) -> None:
    edges = it.edges
    for node in edges.nodes:  # NODES_MAX of them, by the settings
        page.add("angara_node_up", node.up, node.name)
        page.add("angara_node_current", node.current, node.name)
        if node.tip_height is not None:
            page.add("angara_node_tip_height", node.tip_height, node.name)
        page.add_histogram("angara_node_template_seconds", node.template_times, node.name)
    if edges.template_height is not None and edges.template_age_s is not None:
        page.add("angara_template_age_seconds", edges.template_age_s)
        page.add("angara_template_height", edges.template_height)


def _shares(page: Page, it: Moment) -> None:
    now_s, names = trio.current_time(), _tenant_names(it)
    others = [0] * len(COUNTS)
    for tenant, counts in it.sources.hashrates.shares_of_tenants(now_s).items():
        if tenant not in names:
            others = [a + b for a, b in zip(others, counts, strict=True)]
            continue
        for verdict, count in zip(COUNTS, counts, strict=True):
            page.add("angara_shares_total", count, names[tenant], verdict)
    if len(it.sources.registry.tenants_by_id) > TENANTS_MAX:
        for verdict, count in zip(COUNTS, others, strict=True):
            page.add("angara_shares_total", count, OTHERS, verdict)
    uncharged = it.edges.uncharged
    by_column = np.bincount(COLUMN_OF_VERDICT, uncharged[: len(COLUMN_OF_VERDICT)], len(COUNTS))
    for verdict, count in zip(COUNTS[1:], by_column[1:].tolist(), strict=True):  # an accepted one is charged
        page.add("angara_uncharged_shares_total", count, verdict)
    page.add("angara_refused_lines_total", uncharged[REFUSED], "refused")
    page.add("angara_refused_lines_total", uncharged[UNREADABLE], "unreadable")


def _rates(page: Page, it: Moment) -> None:
    """Of containers, and of what they add up to."""
    sources, registry = it.sources, it.sources.registry
    table = sources.hashrates.look_at_containers(trio.current_time(), sources.unheard)
    tenants_hps: dict[int, float] = {}
    sites_hps: dict[int, float] = {}
    rest: list[ContainerLook] = []
    names = _tenant_names(it)
    for place, number in enumerate(sorted(table)):
        row, container = table[number], registry.containers[number]
        rate_hps = row.rate_hps
        tenants_hps[container.tenant_id] = tenants_hps.get(container.tenant_id, 0.0) + rate_hps
        sites_hps[container.site_id] = sites_hps.get(container.site_id, 0.0) + rate_hps
        if place >= CONTAINERS_MAX or container.tenant_id not in names:
            rest.append(row)
        else:
            _add_container(page, names[container.tenant_id], container.name, row)
    if rest:
        whole = ContainerLook(
            sum(row.rate_hps for row in rest),
            sum(row.online for row in rest),
            sum(row.offline for row in rest),
            sum(row.unheard for row in rest),
        )
        _add_container(page, OTHERS, OTHERS, whole)
    page.add("angara_hashrate_hashes_per_second", sum(tenants_hps.values()))
    _add_bounded(page, "angara_tenant_hashrate_hashes_per_second", tenants_hps, names)
    figures = it.sources.figures.figures
    sites = {} if figures is None else _first(figures.sites, SITES_MAX)
    _add_bounded(page, "angara_site_hashrate_hashes_per_second", sites_hps, sites)


def _add_container(page: Page, tenant: str, container: str, row: ContainerLook) -> None:
    page.add("angara_container_hashrate_hashes_per_second", row.rate_hps, tenant, container)
    page.add("angara_container_machines", row.online, tenant, container, "online")
    page.add("angara_container_machines", row.offline, tenant, container, "offline")
    if row.unheard:
        page.add("angara_container_machines", row.unheard, tenant, container, "unheard")


def _routes(page: Page, it: Moment) -> None:
    figures, status = it.sources.figures.figures, it.routes
    if figures is not None:
        orders = _first({number: order.name for number, order in figures.orders.items()}, ORDERS_MAX)
        add_upstreams(page, _first(figures.upstreams, UPSTREAMS_MAX), orders, status.upstreams)
        add_orders(page, figures, orders, status.orders)
        add_answers(page, _first(figures.upstreams, UPSTREAMS_MAX), it.edges.answers)


def add_upstreams(
    page: Page, names: dict[int, str], orders: dict[int, str], status: tuple[UpstreamStatus, ...]
) -> None:
    """Several connections of one upstream are one series."""
    found: dict[tuple[str, str], list[UpstreamStatus]] = {}
    for it in status:
        order = "" if it.order_id is None else orders.get(it.order_id, OTHERS)
        found.setdefault((names.get(it.upstream_id, OTHERS), order), []).append(it)
    for labels, channels in found.items():
        page.add("angara_upstream_up", all(it.serving is not None for it in channels), *labels)
        page.add("angara_upstream_diverted", any(it.diverted for it in channels), *labels)
        page.add("angara_upstream_sessions", sum(it.sessions for it in channels), *labels)
        page.add("angara_upstream_unanswered_shares", sum(it.unanswered for it in channels), *labels)


def add_answers(
    page: Page,
    names: dict[int, str],
    said: Mapping[Answer, int],
) -> None:
    """What became of shares at each upstream."""
    found: Counter[tuple[str, str, str]] = Counter()
    for (number, verdict, reason), shares in said.items():
        words = "" if reason is None else reason.value
        found[names.get(number, OTHERS), verdict.value, words] += shares
    for labels, shares in found.items():
        page.add("angara_upstream_shares_total", shares, *labels)


def add_orders(
    page: Page, figures: BookFigures, names: dict[int, str], status: tuple[OrderStatus, ...]
) -> None:
    """What they bought and what they get."""
    found: dict[str, list[OrderStatus]] = {}
    for it in status:
        if it.order_id in figures.orders:  # else it began a moment ago
            found.setdefault(names.get(it.order_id, OTHERS), []).append(it)
    for name, orders in found.items():
        sold_hps = sum(figures.orders[it.order_id].hashrate_hps for it in orders)
        page.add("angara_order_sold_hashes_per_second", sold_hps, name)
        page.add("angara_order_delivered_hashes_per_second", sum(it.supply_hps for it in orders), name)
        page.add("angara_order_short_hashes_per_second", sum(it.shortage_hps for it in orders), name)
        page.add("angara_order_machines", sum(it.machines for it in orders), name)


def _hub(page: Page, it: Moment) -> None:
    add_hub(page, it.sources.hub())


def add_hub(page: Page, hub: HubFigures) -> None:
    """Edges at other sites, and the way to them."""
    if hub.link is not None:
        page.add("angara_nats_connected", hub.link.connected)
        page.add("angara_nats_dropped_messages_total", hub.link.dropped)
    for it in hub.edges[:EDGES_MAX]:
        page.add("angara_edge_heard_age_seconds", it.silent_s, it.name)
        page.add("angara_edge_missing_age_seconds", it.missing_s, it.name)
        page.add("angara_edge_moment_age_seconds", it.moment_age_s, it.name)
        page.add("angara_edge_unbooked_age_seconds", it.unbooked_s, it.name)
        page.add("angara_edge_unbooked_records", it.unbooked, it.name)
        page.add("angara_edge_unbooked_bytes", it.unbooked_bytes, it.name)
        page.add("angara_edge_held", it.state == "held", it.name)
        page.add("angara_edge_waits", it.state == "waits", it.name)
        page.add("angara_edge_beyond", it.beyond, it.name)
        page.add("angara_edge_machines", it.mining, it.name, "mining")
        page.add("angara_edge_machines", it.machines - it.mining, it.name, "offline")


def _power(page: Page, it: Moment) -> None:
    add_power(page, it.power)
    add_events(page, it.sources.curtailment())
    add_held(page, it.sources.held())
    add_signals(page, it.sources.signals(), int(time.time()))


def _books(page: Page, it: Moment) -> None:
    page.add("angara_books_age_seconds", trio.current_time() - it.sources.figures.read_s)
    figures = it.sources.figures.figures
    if figures is None:
        return
    for status, count in sorted(figures.blocks.items()):
        page.add("angara_blocks", count, status)
    balances = dict(figures.balances_sat)
    names, tenants_sat = _tenant_names(it), {"payable": 0, "in_payout": 0}
    for tenant in it.sources.registry.tenants_by_id:
        for label, account in (("payable", payable(tenant)), ("in_payout", in_payout(tenant))):
            balance = balances.pop(account, 0)
            if tenant in names:
                page.add("angara_tenant_satoshis", balance, names[tenant], label)
            else:
                tenants_sat[label] += balance
    if len(it.sources.registry.tenants_by_id) > TENANTS_MAX:
        for label, balance in tenants_sat.items():
            page.add("angara_tenant_satoshis", balance, OTHERS, label)
    for account, balance in balances.items():  # PoolAccount, all of them
        if account.startswith("pool."):
            page.add("angara_account_satoshis", balance, account.removeprefix("pool."))
    if figures.receivables is not None:
        add_receivables(page, figures.receivables)


def add_receivables(page: Page, it: Receivables) -> None:
    """What buyers owe; no buyer and no order by name."""
    for age, sat in it.sat.items():
        page.add("angara_receivable_satoshis", sat, age.value)
    page.add("angara_unpaid_orders", it.overdue_orders - it.stopped_orders, "overdue")
    page.add("angara_unpaid_orders", it.stopped_orders, "stopped")


def _tenant_names(it: Moment) -> dict[int, str]:
    tenants = it.sources.registry.tenants_by_id
    return _first({number: tenant.name for number, tenant in tenants.items()}, TENANTS_MAX)


def _first(names: Mapping[int, str], count: int) -> dict[int, str]:
    """The oldest of them."""
    return dict(sorted(names.items())[:count])


def _add_bounded(page: Page, name: str, rates_hps: Mapping[int, float], names: dict[int, str]) -> None:
    """Each under its name, and those that have none here together."""
    rest, beyond = 0.0, False
    for number, rate_hps in rates_hps.items():
        if number in names:
            page.add(name, rate_hps, names[number])
        else:
            rest, beyond = rest + rate_hps, True
    if beyond:
        page.add(name, rest, OTHERS)


SECTIONS: Final[tuple[Callable[[Page, Moment], None], ...]] = (
    _pool,
    _durations,
    _nodes,
    _shares,
    _rates,
    _routes,
    _hub,
    _power,
    _books,
)
