"""What is known of power: nameplates of machines, meters and their readings, limits.

A container's nameplate as it is now was so in all hours before: nobody wrote down another one.
"""

from alembic import op
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
from pool.books.migrations.triggers import (
    append_only,
    is_postgresql,
    never_changed,
    never_replaced,
    only_grows,
    set_once,
)

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Create the tables and their triggers."""
    _create_nameplates()
    _create_meters()
    _create_limits()
    append_only(("power_nameplates", "power_meter_containers"))
    if not is_postgresql():
        never_replaced("power_nameplates", [["id"]])
        never_replaced("power_meter_containers", [["meter_id", "container_id"]])
    never_changed("power_readings")
    only_grows(
        "power_meters",
        ("id", "name", "kind", "error_bps", "max_watts", "created_at_s", "created_by"),
        (),
    )
    set_once("power_meters", ("site_id", "rolls_at_wh", "address", "registers", "removed_at_s", "removed_by"))
    only_grows("power_limits", ("id", "watts", "from_s", "reason", "set_at_s", "set_by"), ())
    set_once("power_limits", ("site_id", "container_id", "until_s", "lifted_at_s", "lifted_by"))
    op.execute(
        text(
            "INSERT INTO power_nameplates (id, container_id, scope, from_s, hashrate_ghs, watts, idle_watts,"
            " mj_per_th, error_bps, source, set_at_s, set_by)"
            " SELECT ROW_NUMBER() OVER (ORDER BY id), id, 'plate', 0,"
            " CASE WHEN nameplate_units > 0 THEN nameplate_ths * 1000 / nameplate_units ELSE 0 END,"
            " CASE WHEN nameplate_units > 0 THEN nameplate_kw * 1000 / nameplate_units ELSE 0 END,"
            " 0, (nameplate_kw * 1000000 + nameplate_ths / 2) / nameplate_ths, 1000,"
            " 'nameplate of the container', created_at_s, 'migration'"
            " FROM containers WHERE nameplate_kw > 0 AND nameplate_ths > 0"
        )
    )


def _create_nameplates() -> None:
    create_table(
        "power_nameplates",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("container_id"),
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
        CheckConstraint("scope IN ('unit', 'container', 'plate')", name="ck_power_nameplates_scope"),
        CheckConstraint("(scope = 'unit') = (unit IS NOT NULL)", name="ck_power_nameplates_unit"),
        CheckConstraint("from_s >= 0 AND from_s % 3600 = 0", name="ck_power_nameplates_from_s"),
        CheckConstraint(
            "hashrate_ghs >= 0 AND watts >= 0 AND idle_watts >= 0", name="ck_power_nameplates_watts"
        ),
        CheckConstraint("mj_per_th >= 0", name="ck_power_nameplates_mj_per_th"),
        CheckConstraint("error_bps BETWEEN 0 AND 10000", name="ck_power_nameplates_error_bps"),
        ForeignKeyConstraint(["container_id"], ["containers.id"], name="fk_power_nameplates_container_id"),
        PrimaryKeyConstraint("id", name="pk_power_nameplates"),
        Index("ix_power_nameplates_container_id", "container_id"),
    )


def _create_meters() -> None:
    create_table(
        "power_meters",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("name"),
        words("kind"),
        number("site_id", nullable=True),
        number("error_bps"),
        number("max_watts"),
        number("rolls_at_wh", nullable=True),
        words("address", nullable=True),
        words("registers", nullable=True),
        words("pusher", nullable=True),
        number("created_at_s"),
        words("created_by"),
        number("removed_at_s", nullable=True),
        words("removed_by", nullable=True),
        CheckConstraint("kind IN ('csv', 'modbus', 'push')", name="ck_power_meters_kind"),
        CheckConstraint("length(name) > 0", name="ck_power_meters_name"),
        CheckConstraint("error_bps BETWEEN 0 AND 10000", name="ck_power_meters_error_bps"),
        CheckConstraint("max_watts > 0", name="ck_power_meters_max_watts"),
        CheckConstraint("rolls_at_wh IS NULL OR rolls_at_wh > 0", name="ck_power_meters_rolls_at_wh"),
        CheckConstraint("(kind = 'modbus') = (address IS NOT NULL)", name="ck_power_meters_address"),
        ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_power_meters_site_id"),
        PrimaryKeyConstraint("id", name="pk_power_meters"),
        UniqueConstraint("name", name="uq_power_meters_name"),
    )
    create_table(
        "power_meter_containers",
        number("meter_id"),
        number("container_id"),
        ForeignKeyConstraint(["meter_id"], ["power_meters.id"], name="fk_power_meter_containers_meter_id"),
        ForeignKeyConstraint(
            ["container_id"], ["containers.id"], name="fk_power_meter_containers_container_id"
        ),
        PrimaryKeyConstraint("meter_id", "container_id", name="pk_power_meter_containers"),
        Index("ix_power_meter_containers_container_id", "container_id"),
        clustered=True,
    )
    create_table(
        "power_readings",
        number("meter_id"),
        number("at_s"),
        number("watts", nullable=True),
        number("counter_wh", nullable=True),
        number("taken_at_s"),
        words("taken_by"),
        CheckConstraint("watts IS NOT NULL OR counter_wh IS NOT NULL", name="ck_power_readings_watts"),
        CheckConstraint("watts >= 0", name="ck_power_readings_not_negative"),
        CheckConstraint("counter_wh >= 0", name="ck_power_readings_counter_wh"),
        ForeignKeyConstraint(["meter_id"], ["power_meters.id"], name="fk_power_readings_meter_id"),
        PrimaryKeyConstraint("meter_id", "at_s", name="pk_power_readings"),
        clustered=True,
    )


def _create_limits() -> None:
    create_table(
        "power_limits",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("site_id", nullable=True),
        number("container_id", nullable=True),
        number("watts"),
        number("from_s"),
        number("until_s", nullable=True),
        words("reason"),
        number("set_at_s"),
        words("set_by"),
        number("lifted_at_s", nullable=True),
        words("lifted_by", nullable=True),
        CheckConstraint("(site_id IS NULL) <> (container_id IS NULL)", name="ck_power_limits_place"),
        CheckConstraint("watts >= 0", name="ck_power_limits_watts"),
        CheckConstraint("until_s IS NULL OR until_s > from_s", name="ck_power_limits_until_s"),
        ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_power_limits_site_id"),
        ForeignKeyConstraint(["container_id"], ["containers.id"], name="fk_power_limits_container_id"),
        PrimaryKeyConstraint("id", name="pk_power_limits"),
    )
