"""Users: who may ask the pool for something, in what role."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import only_grows, set_once

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Create the table, its index and its triggers."""
    create_table(
        "users",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("name"),
        words("role"),
        number("tenant_id", nullable=True),
        words("account", nullable=True),
        words("status"),
        number("created_at_s"),
        words("created_by"),
        CheckConstraint("length(name) > 0", name="ck_users_name"),
        CheckConstraint("(role = 'tenant') = (tenant_id IS NOT NULL)", name="ck_users_tenant_id"),
        CheckConstraint("role IN ('tenant', 'viewer', 'operator', 'payer', 'admin')", name="ck_users_role"),
        CheckConstraint("status IN ('active', 'suspended')", name="ck_users_status"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_users_tenant_id"),
        PrimaryKeyConstraint("id", name="pk_users"),
        UniqueConstraint("name", name="uq_users_name"),
    )
    active = text("status = 'active'")
    op.create_index(
        "ix_users_account", "users", ["account"], unique=True, sqlite_where=active, postgresql_where=active
    )
    only_grows("users", ("id", "name", "created_at_s", "created_by"), ())
    set_once("users", ("account",))
