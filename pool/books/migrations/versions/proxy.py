"""Upstreams and orders, forwarded shares, and where each tenant's machines mine."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    LargeBinary,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, only_grows

revision = "0004"
down_revision = "0003"

# What was sold; what may still change of an order is its end.
SOLD = (
    "id",
    "name",
    "buyer",
    "upstream_id",
    "hashrate_ths",
    "tolerance_bps",
    "from_s",
    "until_s",
    "priority",
    "sat_per_ph_day",
    "created_at_s",
    "created_by",
)


def upgrade() -> None:
    """Create the tables and their triggers, and add to those that there are."""
    _create_upstreams()
    _create_orders()
    _create_verdicts()
    _extend_terms_and_rates()
    _extend_journal()
    append_only(("channel_events",))
    only_grows("orders", SOLD, ())
    only_grows(
        "upstream_hours",
        ("hour", "tenant_id", "upstream_id", "order_id", "target", "verdict", "reason"),
        ("shares",),
    )


def _create_upstreams() -> None:
    create_table(
        "upstreams",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("name"),
        number("fallback_id", nullable=True),
        number("outage_s"),
        number("connections"),
        number("suggest_difficulty", nullable=True),
        words("status"),
        number("created_at_s"),
        words("created_by"),
        CheckConstraint("connections BETWEEN 1 AND 16", name="ck_upstreams_connections"),
        CheckConstraint("length(name) BETWEEN 1 AND 63 AND name <> 'pool'", name="ck_upstreams_name"),
        CheckConstraint("outage_s >= 0", name="ck_upstreams_outage_s"),
        CheckConstraint("status IN ('active', 'removed')", name="ck_upstreams_status"),
        CheckConstraint("suggest_difficulty > 0", name="ck_upstreams_suggest_difficulty"),
        ForeignKeyConstraint(["fallback_id"], ["upstreams.id"], name="fk_upstreams_fallback_id"),
        PrimaryKeyConstraint("id", name="pk_upstreams"),
        UniqueConstraint("name", name="uq_upstreams_name"),
    )
    create_table(
        "upstream_endpoints",
        number("upstream_id"),
        number("position"),
        words("host"),
        number("port"),
        words("user_name"),
        words("password"),
        number("tls"),
        words("ca_file", nullable=True),
        CheckConstraint("port BETWEEN 1 AND 65535", name="ck_upstream_endpoints_port"),
        CheckConstraint("position >= 0", name="ck_upstream_endpoints_position"),
        CheckConstraint("tls IN (0, 1)", name="ck_upstream_endpoints_tls"),
        ForeignKeyConstraint(["upstream_id"], ["upstreams.id"], name="fk_upstream_endpoints_upstream_id"),
        PrimaryKeyConstraint("upstream_id", "position", name="pk_upstream_endpoints"),
        clustered=True,
    )


def _create_orders() -> None:
    create_table(
        "orders",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("name"),
        words("buyer"),
        number("upstream_id"),
        number("hashrate_ths"),
        number("tolerance_bps"),
        number("from_s"),
        number("until_s"),
        number("priority"),
        number("sat_per_ph_day"),
        number("created_at_s"),
        words("created_by"),
        number("ended_at_s", nullable=True),
        words("ended_by", nullable=True),
        CheckConstraint("(ended_at_s IS NULL) = (ended_by IS NULL)", name="ck_orders_ended_by"),
        CheckConstraint("hashrate_ths > 0", name="ck_orders_hashrate_ths"),
        CheckConstraint("length(name) BETWEEN 1 AND 63", name="ck_orders_name"),
        CheckConstraint("priority BETWEEN 1 AND 100", name="ck_orders_priority"),
        CheckConstraint("sat_per_ph_day >= 0", name="ck_orders_sat_per_ph_day"),
        CheckConstraint("tolerance_bps BETWEEN 1 AND 10000", name="ck_orders_tolerance_bps"),
        CheckConstraint("until_s > from_s", name="ck_orders_until_s"),
        ForeignKeyConstraint(["upstream_id"], ["upstreams.id"], name="fk_orders_upstream_id"),
        PrimaryKeyConstraint("id", name="pk_orders"),
        UniqueConstraint("name", name="uq_orders_name"),
    )
    create_table(
        "order_suppliers",
        number("order_id"),
        number("tenant_id"),
        number("container_id"),
        ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_suppliers_order_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_order_suppliers_tenant_id"),
        PrimaryKeyConstraint("order_id", "tenant_id", "container_id", name="pk_order_suppliers"),
        clustered=True,
    )
    create_table(
        "order_hours",
        number("order_id"),
        number("hour"),
        number("minutes"),
        number("minutes_short"),
        number("moves"),
        CheckConstraint("minutes_short BETWEEN 0 AND minutes", name="ck_order_hours_minutes_short"),
        CheckConstraint("moves >= 0", name="ck_order_hours_moves"),
        ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_hours_order_id"),
        PrimaryKeyConstraint("order_id", "hour", name="pk_order_hours"),
        clustered=True,
    )
    create_table(
        "channel_events",
        number("id"),
        number("at_s"),
        number("upstream_id"),
        number("order_id", nullable=True),
        words("event"),
        words("words"),
        number("sessions"),
        CheckConstraint(
            "event IN ('served', 'lost', 'fell_back', 'returned', 'switched')", name="ck_channel_events_event"
        ),
        CheckConstraint("sessions >= 0", name="ck_channel_events_sessions"),
        ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_channel_events_order_id"),
        ForeignKeyConstraint(["upstream_id"], ["upstreams.id"], name="fk_channel_events_upstream_id"),
        PrimaryKeyConstraint("id", name="pk_channel_events"),
    )
    op.create_index("ix_channel_events_at_s", "channel_events", ["at_s"])


def _create_verdicts() -> None:
    create_table(
        "upstream_hours",
        number("hour"),
        number("tenant_id"),
        number("upstream_id"),
        number("order_id"),
        words("target"),
        words("verdict"),
        words("reason"),
        number("shares"),
        CheckConstraint("length(target) = 64", name="ck_upstream_hours_target"),
        CheckConstraint("shares > 0", name="ck_upstream_hours_shares"),
        CheckConstraint("verdict = 'rejected' OR reason = ''", name="ck_upstream_hours_reason"),
        CheckConstraint(
            "verdict IN ('accepted', 'rejected', 'unanswered')", name="ck_upstream_hours_verdict"
        ),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_upstream_hours_tenant_id"),
        ForeignKeyConstraint(["upstream_id"], ["upstreams.id"], name="fk_upstream_hours_upstream_id"),
        PrimaryKeyConstraint(
            "hour",
            "tenant_id",
            "upstream_id",
            "order_id",
            "target",
            "verdict",
            "reason",
            name="pk_upstream_hours",
        ),
        clustered=True,
    )
    create_table(
        "upstream_days",
        number("day"),
        number("worker_id"),
        number("upstream_id"),
        words("verdict"),
        number("shares"),
        CheckConstraint("shares > 0", name="ck_upstream_days_shares"),
        CheckConstraint("verdict IN ('accepted', 'rejected', 'unanswered')", name="ck_upstream_days_verdict"),
        ForeignKeyConstraint(["upstream_id"], ["upstreams.id"], name="fk_upstream_days_upstream_id"),
        ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_upstream_days_worker_id"),
        PrimaryKeyConstraint("day", "worker_id", "upstream_id", "verdict", name="pk_upstream_days"),
        clustered=True,
    )


def _extend_terms_and_rates() -> None:
    _add_reference("tenant_terms", "upstream_id", "upstreams")
    _add_one_of("tenant_terms", "order_credit", "pps", "order")
    _add_one_of("tenant_terms", "upstream_risk", "tenant", "pool")
    _add_reference("rates", "upstream_id", "upstreams")
    _add_reference("rates", "order_id", "orders")
    check = "CONSTRAINT ck_rate_hours_undelivered CHECK (undelivered BETWEEN 0 AND shares)"
    _add_column("rate_hours", f"undelivered {_integer()} DEFAULT 0 NOT NULL {check}")
    check = "sat_per_ph_day IS NULL OR (sat_per_ph_day >= 0 AND order_id IS NOT NULL)"
    _add_column("rates", f"sat_per_ph_day {_integer()} CONSTRAINT ck_rates_sat_per_ph_day CHECK ({check})")


def _extend_journal() -> None:
    _add_reference("rate_epochs", "upstream_id", "upstreams")
    _add_reference("rate_epochs", "order_id", "orders")
    _add_one_of("rate_epoch_tenants", "upstream_risk", "tenant", "pool")
    # The old check wants tallies; SQLite cannot drop one, so there the table is made anew.
    op.rename_table("journal_batches", "journal_batches_0003")
    if is_postgresql():
        op.execute(text("ALTER INDEX pk_journal_batches RENAME TO pk_journal_batches_0003"))
    create_table(
        "journal_batches",
        Column("seq", INTEGER, nullable=False, autoincrement=False),
        number("minute"),
        Column("tallies", LargeBinary, nullable=False),
        Column("upstream", LargeBinary, nullable=True),
        PrimaryKeyConstraint("seq", name="pk_journal_batches"),
        CheckConstraint(
            "length(tallies) + coalesce(length(upstream), 0) > 0", name="ck_journal_batches_tallies"
        ),
    )
    op.execute(
        text(
            "INSERT INTO journal_batches (seq, minute, tallies)"
            " SELECT seq, minute, tallies FROM journal_batches_0003"
        )
    )
    op.drop_table("journal_batches_0003")
    create_table(
        "upstream_submits",
        words("key"),
        number("worker_id"),
        number("epoch"),
        number("difficulty_log2"),
        number("counted"),
        words("target"),
        number("noted_at_s"),
        CheckConstraint("counted IN (0, 1)", name="ck_upstream_submits_counted"),
        CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="ck_upstream_submits_difficulty_log2"),
        CheckConstraint("length(target) = 64", name="ck_upstream_submits_target"),
        ForeignKeyConstraint(["epoch"], ["rate_epochs.epoch"], name="fk_upstream_submits_epoch"),
        ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_upstream_submits_worker_id"),
        PrimaryKeyConstraint("key", name="pk_upstream_submits"),
        clustered=True,
    )


def _add_reference(table: str, column: str, to: str) -> None:
    _add_column(table, f"{column} {_integer()} CONSTRAINT fk_{table}_{column} REFERENCES {to} (id)")


def _add_one_of(table: str, column: str, before: str, *others: str) -> None:
    """A closed set; the first value is what all rows so far have."""
    values = ", ".join(f"'{value}'" for value in (before, *others))
    check = f"CONSTRAINT ck_{table}_{column} CHECK ({column} IN ({values}))"
    _add_column(table, f"{column} TEXT DEFAULT '{before}' NOT NULL {check}")


def _add_column(table: str, definition: str) -> None:
    """As text: Alembic cannot say a column's constraints to SQLite, which takes them with the column only."""
    op.execute(text(f"ALTER TABLE {table} ADD COLUMN {definition}"))


def _integer() -> str:
    return "BIGINT" if is_postgresql() else "INTEGER"
