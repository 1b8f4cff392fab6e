"""Where machines are on their own networks, and with what credentials."""

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint

from pool.books.migrations.tables import create_table, number, words

revision = "0027"
down_revision = "0026"

FIRMWARE = "firmware IN ('antminer', 'whatsminer', 'avalon', 'braiins', 'luxos', 'vnish', 'bitaxe', 'other')"


def upgrade() -> None:
    """Create the tables."""
    create_table(
        "machine_addresses",
        number("tenant_id"),
        words("container"),
        words("unit"),
        words("address", nullable=True),
        number("port", nullable=True),
        words("firmware", nullable=True),
        number("set_at_s"),
        words("set_by"),
        CheckConstraint("port BETWEEN 1 AND 65535", name="ck_machine_addresses_port"),
        CheckConstraint("address IS NOT NULL OR port IS NULL", name="ck_machine_addresses_address"),
        CheckConstraint(FIRMWARE, name="ck_machine_addresses_firmware"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_machine_addresses_tenant_id"),
        PrimaryKeyConstraint("tenant_id", "container", "unit", name="pk_machine_addresses"),
        clustered=True,
    )
    create_table(
        "machine_credentials",
        words("firmware"),
        words("scope"),
        words("sealed"),
        number("set_at_s"),
        words("set_by"),
        CheckConstraint(FIRMWARE, name="ck_machine_credentials_firmware"),
        PrimaryKeyConstraint("firmware", "scope", name="pk_machine_credentials"),
        clustered=True,
    )
