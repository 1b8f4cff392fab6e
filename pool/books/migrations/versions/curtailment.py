"""Curtailment: events, their machines with what these did before, and every step of every machine; what is
exempt, and what tenants agreed to."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0029"
down_revision = "0028"

OWNED = text("state IN ('pending', 'asked', 'confirmed', 'drifted', 'waking', 'lost')")


def upgrade() -> None:
    """Create the tables."""
    create_table(
        "power_events",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("site"),
        words("target"),
        number("target_value", nullable=True),
        words("source"),
        words("reference"),
        words("state"),
        number("dry_run"),
        number("asked_at_s"),
        words("asked_by"),
        number("from_s"),
        number("until_s"),
        number("ramp_s"),
        number("watts_before", nullable=True),
        number("watts_asked", nullable=True),
        number("restore_asked_at_s", nullable=True),
        words("restore_asked_by", nullable=True),
        number("ended_at_s", nullable=True),
        words("note", nullable=True),
        CheckConstraint(
            "target IN ('limit', 'share', 'everything', 'break_even')", name="ck_power_events_target"
        ),
        CheckConstraint(
            "source IN ('cli', 'api', 'file', 'price', 'webhook', 'openadr')", name="ck_power_events_source"
        ),
        CheckConstraint(
            "state IN ('planned', 'curtailing', 'holding', 'restoring', 'over', 'cancelled')",
            name="ck_power_events_state",
        ),
        CheckConstraint("dry_run IN (0, 1)", name="ck_power_events_dry_run"),
        CheckConstraint("until_s > from_s", name="ck_power_events_until_s"),
        CheckConstraint("ramp_s >= 0", name="ck_power_events_ramp_s"),
        PrimaryKeyConstraint("id", name="pk_power_events"),
        UniqueConstraint("source", "reference", name="uq_power_events_source_reference"),
    )
    create_table(
        "power_event_machines",
        number("event_id"),
        number("worker_id"),
        number("batch"),
        words("state"),
        number("changed_at_s"),
        number("due_s"),
        number("asks"),
        number("asked_at_s", nullable=True),
        number("before_from_s"),
        number("before_until_s"),
        number("watts_before"),
        number("watts_idle"),
        words("basis"),
        number("error_bps"),
        number("off_from_s", nullable=True),
        number("off_until_s", nullable=True),
        CheckConstraint(
            "state IN ('pending', 'asked', 'confirmed', 'refused', 'drifted', 'waking', 'restored', 'lost',"
            " 'released')",
            name="ck_power_event_machines_state",
        ),
        CheckConstraint("before_until_s > before_from_s", name="ck_power_event_machines_before_until_s"),
        CheckConstraint(
            "off_until_s IS NULL OR off_until_s >= off_from_s", name="ck_power_event_machines_off_until_s"
        ),
        ForeignKeyConstraint(["event_id"], ["power_events.id"], name="fk_power_event_machines_event_id"),
        ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_power_event_machines_worker_id"),
        PrimaryKeyConstraint("event_id", "worker_id", name="pk_power_event_machines"),
        CheckConstraint("asks >= 0", name="ck_power_event_machines_asks"),
        Index(
            "uq_power_event_machines_owned",
            "worker_id",
            unique=True,
            sqlite_where=OWNED,
            postgresql_where=OWNED,
        ),
        clustered=True,
    )
    create_table(
        "power_event_work",
        number("event_id"),
        number("worker_id"),
        number("difficulty_log2"),
        number("shares"),
        CheckConstraint("shares > 0", name="ck_power_event_work_shares"),
        PrimaryKeyConstraint("event_id", "worker_id", "difficulty_log2", name="pk_power_event_work"),
        clustered=True,
    )
    create_table(
        "power_event_steps",
        number("event_id"),
        number("step"),
        number("worker_id", nullable=True),
        number("at_s"),
        words("state"),
        words("words"),
        ForeignKeyConstraint(["event_id"], ["power_events.id"], name="fk_power_event_steps_event_id"),
        PrimaryKeyConstraint("event_id", "step", name="pk_power_event_steps"),
        Index("ix_power_event_steps_event_id_worker_id", "event_id", "worker_id"),
        clustered=True,
    )
    create_table(
        "power_exemptions",
        number("container_id"),
        words("unit"),
        words("reason"),
        number("made_at_s"),
        words("made_by"),
        ForeignKeyConstraint(["container_id"], ["containers.id"], name="fk_power_exemptions_container_id"),
        PrimaryKeyConstraint("container_id", "unit", name="pk_power_exemptions"),
        clustered=True,
    )
    create_table(
        "power_terms",
        number("tenant_id"),
        number("priority"),
        number("curtailable_bps"),
        number("changed_at_s"),
        words("changed_by"),
        CheckConstraint("priority BETWEEN 1 AND 100", name="ck_power_terms_priority"),
        CheckConstraint("curtailable_bps BETWEEN 0 AND 10000", name="ck_power_terms_curtailable_bps"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_power_terms_tenant_id"),
        PrimaryKeyConstraint("tenant_id", name="pk_power_terms"),
        clustered=True,
    )
    append_only(("power_event_work", "power_event_steps"))
    if not is_postgresql():
        never_replaced("power_event_work", [["event_id", "worker_id", "difficulty_log2"]])
        never_replaced("power_event_steps", [["event_id", "step"]])
