"""The tables of curtailment: events, the machines that each of them has, and every step of every machine.

A step is written before what it says is done, so that whoever comes after a crash knows what may have been
done. What a machine did before an event is kept with it, exactly: its accepted work by difficulty in the
window before, which is what an hour without it forgoes. Must not know: how machines are told.
"""

from sqlalchemy import CheckConstraint, ForeignKey, Index, PrimaryKeyConstraint, UniqueConstraint

from payouts.schemas.money import counted, number, one_of, table, words

# What is asked for: to a limit of the site's power, by a share of it, everything, or what does not pay for
# its energy. `reference` is the signal's own name for it: the same one again is the same event.
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

power_events = table(
    "power_events",
    counted("id", "power_events"),
    words("site"),  # empty: all of them
    words("target"),
    number("target_value", nullable=True),  # W of a limit, bps of a share
    words("source"),
    words("reference"),
    words("state"),
    number("dry_run"),
    number("asked_at_s"),
    words("asked_by"),
    number("from_s"),
    number("until_s", nullable=True),  # NULL: until somebody restores it
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
    CheckConstraint("until_s IS NULL OR until_s > from_s", name="until_s"),
    CheckConstraint("ramp_s >= 0", name="ramp_s"),
)
# `off_from_s` is the last accepted share before it was off, `off_until_s` the first one after.
power_event_machines = table(
    "power_event_machines",
    number("event_id", ForeignKey("power_events.id")),
    number("worker_id", ForeignKey("workers.id")),
    number("batch"),
    words("state"),
    number("changed_at_s"),
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
    Index(None, "worker_id"),
    clustered=True,
)
# Accepted shares of a machine between before_from_s and before_until_s.
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
