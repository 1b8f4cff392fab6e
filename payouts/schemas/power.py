"""The tables of what is known of power: nameplates of machines, meters and their readings, limits.

A nameplate is in force from the beginning of an hour, so an hour has one; the newest row that has begun is.
It has its figures in it: a table of models that changes later changes no hour that is over. A meter stands
before a whole site (`site_id`), or before containers, each tenant's part of a box by itself.

Invariants, held by triggers: nameplates are append-only, a reading never changes, of a meter and a limit
nothing changes but that it ends. Must not know: connections.
"""

from sqlalchemy import CheckConstraint, ForeignKey, Index, PrimaryKeyConstraint, UniqueConstraint

from payouts.schemas.money import counted, number, one_of, table, words

# The first that is in force counts: of the unit, of all units of its container, and what the container's own
# nameplate (kW and TH/s of all of them) comes to.
SCOPES = ("unit", "container", "plate")
METER_KINDS = ("csv", "modbus", "push")

# mj_per_th 0: from here on nothing is known by this scope. Of a container's plate without its number of units
# nobody knows what one of them does: hashrate_ghs and watts are 0.
power_nameplates = table(
    "power_nameplates",
    counted("id", "power_nameplates"),
    number("container_id", ForeignKey("containers.id")),
    words("scope"),
    words("unit", nullable=True),
    number("from_s"),
    words("model", nullable=True),
    number("hashrate_ghs"),
    number("watts"),
    number("idle_watts"),
    number("mj_per_th"),
    number("error_bps"),
    words("source"),
    number("set_at_s"),
    words("set_by"),
    one_of("scope", SCOPES),
    CheckConstraint("(scope = 'unit') = (unit IS NOT NULL)", name="unit"),
    CheckConstraint("from_s >= 0 AND from_s % 3600 = 0", name="from_s"),
    CheckConstraint("hashrate_ghs >= 0 AND watts >= 0 AND idle_watts >= 0", name="watts"),
    CheckConstraint("mj_per_th >= 0", name="mj_per_th"),
    CheckConstraint("error_bps BETWEEN 0 AND 10000", name="error_bps"),
    Index(None, "container_id"),
)
power_meters = table(
    "power_meters",
    counted("id", "power_meters"),
    words("name"),
    words("kind"),
    number("site_id", ForeignKey("sites.id"), nullable=True),  # NULL: before its containers
    number("error_bps"),  # of its class
    number("max_watts"),  # more than that it cannot draw: who reads it reads wrong
    number("rolls_at_wh", nullable=True),  # its counter begins at 0 again there
    words("address", nullable=True),  # of Modbus: host:port/unit
    words("registers", nullable=True),  # of Modbus: what is read where
    words("pusher", nullable=True),  # the user that may push for it beside operators
    number("created_at_s"),
    words("created_by"),
    number("removed_at_s", nullable=True),
    words("removed_by", nullable=True),
    UniqueConstraint("name"),
    one_of("kind", METER_KINDS),
    CheckConstraint("length(name) > 0", name="name"),
    CheckConstraint("error_bps BETWEEN 0 AND 10000", name="error_bps"),
    CheckConstraint("max_watts > 0", name="max_watts"),
    CheckConstraint("rolls_at_wh IS NULL OR rolls_at_wh > 0", name="rolls_at_wh"),
    CheckConstraint("(kind = 'modbus') = (address IS NOT NULL)", name="address"),
)
power_meter_containers = table(
    "power_meter_containers",
    number("meter_id", ForeignKey("power_meters.id")),
    number("container_id", ForeignKey("containers.id")),
    PrimaryKeyConstraint("meter_id", "container_id"),
    Index(None, "container_id"),
    clustered=True,
)
# What it drew at a moment, and what its counter had; one of them at least.
power_readings = table(
    "power_readings",
    number("meter_id", ForeignKey("power_meters.id")),
    number("at_s"),
    number("watts", nullable=True),
    number("counter_wh", nullable=True),
    number("taken_at_s"),
    words("taken_by"),
    PrimaryKeyConstraint("meter_id", "at_s"),
    CheckConstraint("watts IS NOT NULL OR counter_wh IS NOT NULL", name="watts"),
    CheckConstraint("watts >= 0", name="not_negative"),
    CheckConstraint("counter_wh >= 0", name="counter_wh"),
    clustered=True,
)
# Half-open. Who lifts it before its time ends it there, and it was in force until then.
power_limits = table(
    "power_limits",
    counted("id", "power_limits"),
    number("site_id", ForeignKey("sites.id"), nullable=True),
    number("container_id", ForeignKey("containers.id"), nullable=True),
    number("watts"),
    number("from_s"),
    number("until_s", nullable=True),  # NULL: until somebody lifts it
    words("reason"),
    number("set_at_s"),
    words("set_by"),
    number("lifted_at_s", nullable=True),
    words("lifted_by", nullable=True),
    CheckConstraint("(site_id IS NULL) <> (container_id IS NULL)", name="place"),
    CheckConstraint("watts >= 0", name="watts"),
    CheckConstraint("until_s IS NULL OR until_s > from_s", name="until_s"),
)

APPEND_ONLY = ("power_nameplates", "power_meter_containers")
