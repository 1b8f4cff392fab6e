"""The tables of upstreams and orders: where machines mine for others, what was sold, and what came of it.

Invariants, held by triggers that the migrations create: what was sold never changes, an order only ends;
what upstreams said of shares only grows; events are append-only. What was delivered for an order is not in
here: it is the shares of its rates, in `rate_hours`.

Must not know: connections, sessions, and who writes.
"""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from payouts.schemas.money import INTEGER, counted, number, one_of, row_id, table, words

# A pool that we mine on. Where all its endpoints are gone for longer than outage_s, its machines mine on
# the fallback, or where that is NULL for the pool itself. Whoever was removed keeps its row.
upstreams = table(
    "upstreams",
    counted("id", "upstreams"),
    words("name"),
    number("fallback_id", ForeignKey("upstreams.id"), nullable=True),
    number("outage_s"),
    number("connections"),
    number("suggest_difficulty", nullable=True),
    words("status"),
    number("created_at_s"),
    words("created_by"),
    UniqueConstraint("name"),
    CheckConstraint("length(name) BETWEEN 1 AND 63 AND name <> 'pool'", name="name"),  # that is ourselves
    CheckConstraint("outage_s >= 0", name="outage_s"),
    CheckConstraint("connections BETWEEN 1 AND 16", name="connections"),
    CheckConstraint("suggest_difficulty > 0", name="suggest_difficulty"),
    one_of("status", ("active", "removed")),
)
upstream_endpoints = table(
    "upstream_endpoints",
    number("upstream_id", ForeignKey("upstreams.id")),
    number("position"),  # from 0: the first one serves while it can
    words("host"),
    number("port"),
    words("user_name"),
    words("password"),
    number("tls"),
    words("ca_file", nullable=True),
    PrimaryKeyConstraint("upstream_id", "position"),
    CheckConstraint("position >= 0", name="position"),
    CheckConstraint("port BETWEEN 1 AND 65535", name="port"),
    CheckConstraint("tls IN (0, 1)", name="tls"),
    clustered=True,
)
orders = table(
    "orders",
    counted("id", "orders"),
    words("name"),
    words("buyer"),
    number("upstream_id", ForeignKey("upstreams.id")),
    number("hashrate_ths"),
    number("tolerance_bps"),
    number("from_s"),
    number("until_s"),
    number("priority"),  # 1 is served first
    number("sat_per_ph_day"),
    number("created_at_s"),
    words("created_by"),
    number("ended_at_s", nullable=True),  # before its time
    words("ended_by", nullable=True),
    UniqueConstraint("name"),
    CheckConstraint("length(name) BETWEEN 1 AND 63", name="name"),
    CheckConstraint("hashrate_ths > 0", name="hashrate_ths"),
    CheckConstraint("tolerance_bps BETWEEN 1 AND 10000", name="tolerance_bps"),
    CheckConstraint("until_s > from_s", name="until_s"),
    CheckConstraint("priority BETWEEN 1 AND 100", name="priority"),
    CheckConstraint("sat_per_ph_day >= 0", name="sat_per_ph_day"),
    CheckConstraint("(ended_at_s IS NULL) = (ended_by IS NULL)", name="ended_by"),
)
order_suppliers = table(
    "order_suppliers",
    number("order_id", ForeignKey("orders.id")),
    number("tenant_id", ForeignKey("tenants.id")),
    number("container_id"),  # 0: all of the tenant's containers
    PrimaryKeyConstraint("order_id", "tenant_id", "container_id"),
    clustered=True,
)
# How an order makes good what is missing; none of one that does not. Tolerances as 500:1,100:24: hundredths
# of a percent, over so many hours. A credit with extension_h is delivered for so long after its end.
order_terms = table(
    "order_terms",
    number("order_id", ForeignKey("orders.id")),
    words("make_good"),
    words("tolerances"),
    number("extension_h", nullable=True),
    PrimaryKeyConstraint("order_id"),
    one_of("make_good", ("credit", "refund")),
    clustered=True,
)
# What the allocator saw: minutes that it measured, those of them below tolerance, machines that it moved; and
# minutes in which machines were there, and the order's upstream was nowhere.
order_hours = table(
    "order_hours",
    number("order_id", ForeignKey("orders.id")),
    number("hour"),
    number("minutes"),
    number("minutes_short"),
    number("moves"),
    Column("minutes_away", INTEGER, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("order_id", "hour"),
    CheckConstraint("minutes_short BETWEEN 0 AND minutes", name="minutes_short"),
    CheckConstraint("moves >= 0", name="moves"),
    clustered=True,
)
channel_events = table(
    "channel_events",
    row_id(),
    number("at_s"),
    number("upstream_id", ForeignKey("upstreams.id")),
    number("order_id", ForeignKey("orders.id"), nullable=True),
    words("event"),
    words("words"),
    number("sessions"),
    one_of("event", ("served", "lost", "fell_back", "returned", "switched")),
    CheckConstraint("sessions >= 0", name="sessions"),
    Index(None, "at_s"),
)
VERDICTS = ("accepted", "rejected", "unanswered")
# What upstreams said of the shares that were forwarded to them, by what was a share to them, kept for ever.
upstream_hours = table(
    "upstream_hours",
    number("hour"),
    number("tenant_id", ForeignKey("tenants.id")),
    number("upstream_id", ForeignKey("upstreams.id")),
    number("order_id"),  # 0: of no order
    words("target"),  # the upstream's: 64 hex digits, as a number is written
    words("verdict"),
    words("reason"),  # empty unless it was rejected
    number("shares"),
    PrimaryKeyConstraint("hour", "tenant_id", "upstream_id", "order_id", "target", "verdict", "reason"),
    CheckConstraint("length(target) = 64", name="target"),
    one_of("verdict", VERDICTS),
    CheckConstraint("verdict = 'rejected' OR reason = ''", name="reason"),
    CheckConstraint("shares > 0", name="shares"),
    clustered=True,
)
# The same by machine.
upstream_days = table(
    "upstream_days",
    number("day"),
    number("worker_id", ForeignKey("workers.id")),
    number("upstream_id", ForeignKey("upstreams.id")),
    words("verdict"),
    number("shares"),
    PrimaryKeyConstraint("day", "worker_id", "upstream_id", "verdict"),
    one_of("verdict", VERDICTS),
    CheckConstraint("shares > 0", name="shares"),
    clustered=True,
)

APPEND_ONLY = ("channel_events", "order_terms")
