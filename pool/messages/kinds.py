"""The kinds of messages: how bad each is, whose doing it can be, and what its titles say.

Invariant: what a thief would do (another address, a silence, work that nobody can have done) can neither be
silenced nor be crowded out by what strangers do. Must not know: when a message is due.
"""

import enum
from typing import Final

import msgspec

from pool.messages.message import Happened, Severity


class Cause(enum.Enum):
    """Who can bring messages of a kind about, in any number: each has a bound of its own an hour."""

    MACHINES = "machines"  # whoever reaches a port, and perhaps knows a tenant's name
    HOUSE = "house"  # nodes, upstreams, disks
    EDGES = "edges"  # who has a site, or cuts its line
    PEOPLE = "people"  # who has the books' trust; and the chain, which gives few blocks


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Titles have {} for the name of one, or the number of several."""

    severity: Severity
    cause: Cause
    silenceable: bool = True
    raised: tuple[str, str]
    recovered: tuple[str, str] = ("", "")

    def title(self, happened: Happened, names: list[str]) -> str:
        one, many = self.recovered if happened is Happened.RECOVERED else self.raised
        title = one.format(names[0]) if len(names) == 1 else many.format(len(names))
        return f"Still: {title}" if happened is Happened.REMINDER else title


KINDS: Final = {
    "all-offline": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.MACHINES,
        raised=("all machines are offline", "{} times all machines are offline"),
        recovered=("machines mine again", "machines mine again"),
    ),
    "site-offline": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.MACHINES,
        raised=("site {} is offline", "{} sites are offline"),
        recovered=("site {} mines again", "{} sites mine again"),
    ),
    "container-offline": Kind(
        severity=Severity.WARNING,
        cause=Cause.MACHINES,
        raised=("container {} is offline", "{} containers are offline"),
        recovered=("container {} mines again", "{} containers mine again"),
    ),
    "machines-gone": Kind(
        severity=Severity.WARNING,
        cause=Cause.MACHINES,
        raised=("machines of container {} did not come back", "machines of {} containers did not come back"),
    ),
    "under-nameplate": Kind(
        severity=Severity.WARNING,
        cause=Cause.MACHINES,
        raised=("container {} is under its nameplate", "{} containers are under their nameplates"),
        recovered=("container {} has its nameplate again", "{} containers have their nameplates again"),
    ),
    "tenant-rejects": Kind(
        severity=Severity.WARNING,
        cause=Cause.MACHINES,
        raised=("work of tenant {} is rejected", "work of {} tenants is rejected"),
        recovered=("work of tenant {} is good again", "work of {} tenants is good again"),
    ),
    "container-rejects": Kind(
        severity=Severity.WARNING,
        cause=Cause.MACHINES,
        raised=("work of container {} is rejected", "work of {} containers is rejected"),
        recovered=("work of container {} is good again", "work of {} containers is good again"),
    ),
    "over-power-limit": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.MACHINES,
        raised=("{} draws more than its limit", "{} places draw more than their limits"),
        recovered=("{} is within its limit again", "{} places are within their limits again"),
    ),
    "meter-wrong": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("meter {} cannot be right", "{} meters cannot be right"),
        recovered=("meter {} reads again", "{} meters read again"),
    ),
    "no-job": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.HOUSE,
        raised=("miners get no new work", "miners get no new work"),
        recovered=("miners get work again", "miners get work again"),
    ),
    "node-down": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("node {} is down", "{} nodes are down"),
        recovered=("node {} is up again", "{} nodes are up again"),
    ),
    "upstream-down": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("upstream {} is down", "{} upstreams are down"),
        recovered=("upstream {} serves again", "{} upstreams serve again"),
    ),
    "order-short": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("order {} is short", "{} orders are short"),
        recovered=("order {} is delivered in full", "{} orders are delivered in full"),
    ),
    "books-away": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.HOUSE,
        raised=("the database does not answer", "the database does not answer"),
        recovered=("the database answers again", "the database answers again"),
    ),
    "journal-lags": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("shares wait for the books", "shares wait for the books"),
        recovered=("the books have every share again", "the books have every share again"),
    ),
    "journal-failed": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.HOUSE,
        silenceable=False,
        raised=("the journal failed and the pool has stopped",) * 2,
        recovered=("the pool runs again after its journal failed",) * 2,
    ),
    "process-died": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("a process that serves miners died", "processes that serve miners died"),
        recovered=("all processes serve miners again", "all processes serve miners again"),
    ),
    "disk-full": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.HOUSE,
        raised=("the disk of the pool is nearly full", "the disk of the pool is nearly full"),
        recovered=("the disk of the pool has room again", "the disk of the pool has room again"),
    ),
    "certificate-ends": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("the certificate of {} is about to end", "the certificates of {} listeners are about to end"),
        recovered=("the certificate of {} is renewed", "the certificates of {} listeners are renewed"),
    ),
    "nats-away": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.HOUSE,
        raised=("the hub is connected to no NATS server",) * 2,
        recovered=("the hub is connected to a NATS server again",) * 2,
    ),
    "edge-silent": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.EDGES,
        raised=("edge {} is silent", "{} edges are silent"),
        recovered=("edge {} is heard of again", "{} edges are heard of again"),
    ),
    "edge-held": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.EDGES,
        raised=("nothing of edge {} is booked", "nothing of {} edges is booked"),
        recovered=("edge {} is booked again", "{} edges are booked again"),
    ),
    "edge-beyond-nameplate": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.EDGES,
        silenceable=False,
        raised=(
            "edge {} sends more work than its machines can do",
            "{} edges send more work than their machines can do",
        ),
        recovered=("edge {} is within its nameplate again", "{} edges are within their nameplates again"),
    ),
    "edge-lags": Kind(
        severity=Severity.WARNING,
        cause=Cause.EDGES,
        raised=("edge {} is behind", "{} edges are behind"),
        recovered=("edge {} is no longer behind", "{} edges are no longer behind"),
    ),
    "signal-silent": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("signal {} is silent", "{} signals are silent"),
        recovered=("signal {} is heard of again", "{} signals are heard of again"),
    ),
    "signal-refused": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("what signal {} asked for was refused", "what {} signals asked for was refused"),
        recovered=("signal {} is taken again", "{} signals are taken again"),
    ),
    "curtailed": Kind(
        severity=Severity.INFO,
        cause=Cause.HOUSE,
        raised=("machines pause for power event {}", "machines pause for {} power events"),
        recovered=("power event {} is over", "{} power events are over"),
    ),
    "curtailed-short": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.HOUSE,
        raised=("power event {} is short", "{} power events are short"),
        recovered=("power event {} is met", "{} power events are met"),
    ),
    "curtailed-drawn": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=(
            "machines that are off draw in power event {}",
            "machines that are off draw in {} power events",
        ),
        recovered=(
            "no machine that is off draws in power event {}",
            "no machine that is off draws in {} power events",
        ),
    ),
    "machines-lost": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=(
            "machines did not come back from power event {}",
            "machines did not come back from {} power events",
        ),
        recovered=(
            "all machines are back from power event {}",
            "all machines are back from {} power events",
        ),
    ),
    "machine-given-up": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("machine {} was given up", "{} machines were given up"),
        recovered=("machine {} is no longer given up", "{} machines are no longer given up"),
    ),
    "machine-forgotten": Kind(
        severity=Severity.WARNING,
        cause=Cause.PEOPLE,
        silenceable=False,
        raised=("machine {} is gone for good", "{} machines are gone for good"),
    ),
    "meter-uncounted": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("meter {} did not count for an hour", "{} meters did not count for an hour"),
        recovered=("meter {} counts again", "{} meters count again"),
    ),
    "energy-unpriced": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("energy of {} has no price", "energy of {} tenants has no price"),
        recovered=("energy of {} is charged", "energy of {} tenants is charged"),
    ),
    "order-unpaid": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("invoices of order {} are overdue", "invoices of {} orders are overdue"),
        recovered=("order {} is paid", "{} orders are paid"),
    ),
    "order-stopped": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.HOUSE,
        raised=("order {} stopped: it is not paid", "{} orders stopped: they are not paid"),
        recovered=("order {} goes on", "{} orders go on"),
    ),
    "order-running-out": Kind(
        severity=Severity.WARNING,
        cause=Cause.HOUSE,
        raised=("what was paid for order {} runs out", "what was paid for {} orders runs out"),
        recovered=("order {} is paid for a day more", "{} orders are paid for a day more"),
    ),
    "order-uncovered": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.HOUSE,
        raised=("order {} stopped: its deposit is used up", "{} orders stopped: their deposits are used up"),
        recovered=("order {} goes on", "{} orders go on"),
    ),
    "tokens-guessed": Kind(
        severity=Severity.WARNING,
        cause=Cause.MACHINES,
        raised=("somebody guesses tokens", "somebody guesses tokens"),
        recovered=("nobody guesses tokens any more", "nobody guesses tokens any more"),
    ),
    "block-found": Kind(
        severity=Severity.INFO,
        cause=Cause.PEOPLE,
        raised=("block {} found", "{} blocks found"),
    ),
    "waiting": Kind(
        severity=Severity.WARNING,
        cause=Cause.PEOPLE,
        raised=("{} waits for a person", "{} payouts, proposals and requests wait for a person"),
        recovered=("{} waits no longer", "{} payouts, proposals and requests wait no longer"),
    ),
    "address-changed": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.PEOPLE,
        silenceable=False,
        raised=("payout address of {} changed", "payout addresses of {} tenants changed"),
    ),
    "glass-broken": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.PEOPLE,
        silenceable=False,
        raised=("the glass was broken for {}", "the glass was broken {} times"),
    ),
    "approval-changed": Kind(
        severity=Severity.CRITICAL,
        cause=Cause.PEOPLE,
        silenceable=False,
        raised=("who has to agree to changes is set anew", "who has to agree to changes was set {} times"),
    ),
    "silenced": Kind(
        severity=Severity.INFO,
        cause=Cause.PEOPLE,
        silenceable=False,
        raised=("{} is silenced", "{} silences"),
    ),
}
