"""The tables of machines on their own networks: where each is, and what is shown to those that want it.

Only what the key file opens is in `machine_credentials`: who has the books, or a copy of them, has no
password. Must not know: how a machine is spoken to.
"""

from sqlalchemy import CheckConstraint, ForeignKey, PrimaryKeyConstraint

from payouts.schemas.money import number, one_of, table, words
from pool.power.control.contract import Firmware

FIRMWARE = tuple(it.value for it in Firmware)

# By name: a machine may have an address before it has mined.
machine_addresses = table(
    "machine_addresses",
    number("tenant_id", ForeignKey("tenants.id")),
    words("container"),
    words("unit"),
    words("address", nullable=True),  # NULL: where it connects from
    number("port", nullable=True),  # NULL: its firmware's own
    words("firmware", nullable=True),  # NULL: what it says when it mines
    number("set_at_s"),
    words("set_by"),
    PrimaryKeyConstraint("tenant_id", "container", "unit"),
    CheckConstraint("port BETWEEN 1 AND 65535", name="port"),
    CheckConstraint("address IS NOT NULL OR port IS NULL", name="address"),
    one_of("firmware", FIRMWARE),
    clustered=True,
)
# `scope`: empty for all of that firmware, site:NAME, or container:TENANT.NAME; the narrowest counts.
machine_credentials = table(
    "machine_credentials",
    words("firmware"),
    words("scope"),
    words("sealed"),
    number("set_at_s"),
    words("set_by"),
    PrimaryKeyConstraint("firmware", "scope"),
    one_of("firmware", FIRMWARE),
    clustered=True,
)
