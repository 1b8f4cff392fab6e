"""The tables of curtailment: events, the machines that each of them has, and every step of every machine.

A step is written before what it says is done, so that whoever comes after a crash knows what may have been
done. What a machine did before an event was asked for is kept with it, exactly: its accepted work by
difficulty in the window before, which is what an hour without it forgoes. It is written when the event is
asked for, of all machines of its site, whichever are chosen later: who knows of an event cannot work for it.

Between `off_from_s` and `off_until_s` a machine was off, but for what the tallies have of it in between: who
mines against what he was told has forgone that much less. A machine that never was off, or was not believed
to be, has neither. Must not know: how machines are told.
"""

from sqlalchemy import CheckConstraint, ForeignKey, Index, PrimaryKeyConstraint, UniqueConstraint, text

from payouts.schemas.money import counted, number, one_of, table, words

# What is asked for: to a limit of the site's power, by a share of it, everything, or what does not pay for
# its energy (at a price of a kWh, or at the tariff of the site). `reference` is the signal's own name for it:
# the same one again is the same event.
TARGETS = ("limit", "share", "everything", "break_even")
SOURCES = ("cli", "api", "file", "price", "webhook", "openadr")
EVENT_STATES = ("planned", "curtailing", "holding", "restoring", "over", "cancelled")
MACHINE_STATES = (
    "pending",
    "asked",
    "confirmed",
    "refused",
    "drifted",
    "waking",
    "restored",
    "lost",
    "released",
)
OWNED = ("pending", "asked", "confirmed", "drifted", "waking", "lost")  # by one event at a time

power_events = table(
    "power_events",
    counted("id", "power_events"),
    words("site"),  # empty: all of them
    words("target"),
    number("target_value", nullable=True),  # W of a limit, bps of a share, millisatoshi of a kWh
    words("source"),
    words("reference"),
    words("state"),
    number("dry_run"),
    number("asked_at_s"),
    words("asked_by"),
    number("from_s"),
    number("until_s"),  # or when somebody restores it before
    number("ramp_s"),  # within which the target is to be met
    number("watts_before", nullable=True),
    number("watts_asked", nullable=True),  # how much less
    number("restore_asked_at_s", nullable=True),
    words("restore_asked_by", nullable=True),
    number("ended_at_s", nullable=True),
    words("note", nullable=True),
    UniqueConstraint("source", "reference"),
    one_of("target", TARGETS),
    one_of("source", SOURCES),
    one_of("state", EVENT_STATES),
    CheckConstraint("dry_run IN (0, 1)", name="dry_run"),
    CheckConstraint("until_s > from_s", name="until_s"),
    CheckConstraint("ramp_s >= 0", name="ramp_s"),
)
# It is asked at `due_s`, or later; `asks` counts how often it was asked to pause, or then to wake,
# `asked_at_s` is the last time. `off_from_s` is the last accepted share before it was off, and not before it
# was asked; `off_until_s` the first one after, or when it was given up as lost.
power_event_machines = table(
    "power_event_machines",
    number("event_id", ForeignKey("power_events.id")),
    number("worker_id", ForeignKey("workers.id")),
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
    PrimaryKeyConstraint("event_id", "worker_id"),
    one_of("state", MACHINE_STATES),
    CheckConstraint("before_until_s > before_from_s", name="before_until_s"),
    CheckConstraint("off_until_s IS NULL OR off_until_s >= off_from_s", name="off_until_s"),
    CheckConstraint("asks >= 0", name="asks"),
    Index(
        "uq_power_event_machines_owned",
        "worker_id",
        unique=True,
        sqlite_where=text(f"state IN ({', '.join(map(repr, OWNED))})"),
        postgresql_where=text(f"state IN ({', '.join(map(repr, OWNED))})"),
    ),
    clustered=True,
)
# Accepted shares of a machine between before_from_s and before_until_s; of every machine of the site.
power_event_work = table(
    "power_event_work",
    number("event_id"),
    number("worker_id"),
    number("difficulty_log2"),
    number("shares"),
    PrimaryKeyConstraint("event_id", "worker_id", "difficulty_log2"),
    CheckConstraint("shares > 0", name="shares"),
    clustered=True,
)
power_event_steps = table(
    "power_event_steps",
    number("event_id", ForeignKey("power_events.id")),
    number("step"),  # of the event, from 1
    number("worker_id", nullable=True),  # NULL: the event's own
    number("at_s"),
    words("state"),
    words("words"),
    PrimaryKeyConstraint("event_id", "step"),
    Index(None, "event_id", "worker_id"),
    clustered=True,
)
# Machines that no event asks: a whole container (unit empty), or one unit of it.
power_exemptions = table(
    "power_exemptions",
    number("container_id", ForeignKey("containers.id")),
    words("unit"),
    words("reason"),
    number("made_at_s"),
    words("made_by"),
    PrimaryKeyConstraint("container_id", "unit"),
    clustered=True,
)
# What a tenant agreed to: those of a lower priority are asked first, and of its power no more than a share.
power_terms = table(
    "power_terms",
    number("tenant_id", ForeignKey("tenants.id")),
    number("priority"),
    number("curtailable_bps"),
    number("changed_at_s"),
    words("changed_by"),
    PrimaryKeyConstraint("tenant_id"),
    CheckConstraint("priority BETWEEN 1 AND 100", name="priority"),
    CheckConstraint("curtailable_bps BETWEEN 0 AND 10000", name="curtailable_bps"),
    clustered=True,
)

APPEND_ONLY = ("power_event_work", "power_event_steps")
