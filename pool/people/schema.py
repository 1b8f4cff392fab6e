"""The tables of users and of their tokens.

Invariants: a user is never deleted and keeps its name, number and account, so that a name in the history is
one person's for ever; of active users each has an account of its own. Of a token all stays as it was made,
but when it was used last, which only grows, and that it was revoked, which stays. Held by triggers and an
index that the migrations create.

Must not know: what a role may do.
"""

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text

from payouts.schemas.money import counted, number, one_of, table, words
from pool.people.roles import USER_ROLES, Role

users = table(
    "users",
    counted("id", "users"),
    words("name"),
    words("role"),
    number("tenant_id", ForeignKey("tenants.id"), nullable=True),  # whose figures a tenant's user sees
    words("account", nullable=True),  # the operating system's name of who comes through the socket
    words("status"),
    number("created_at_s"),
    words("created_by"),
    UniqueConstraint("name"),
    CheckConstraint("length(name) > 0", name="name"),
    CheckConstraint("(role = 'tenant') = (tenant_id IS NOT NULL)", name="tenant_id"),
    one_of("role", tuple(role.value for role in USER_ROLES)),
    one_of("status", ("active", "suspended")),
    Index(
        "ix_users_account",
        "account",
        unique=True,
        sqlite_where=text("status = 'active'"),
        postgresql_where=text("status = 'active'"),
    ),
)
tokens = table(
    "tokens",
    counted("id", "tokens"),
    number("user_id", ForeignKey("users.id")),
    words("label"),
    words("scope"),  # the most that it may, whatever its user may
    words("digest"),  # SHA-256
    number("created_at_s"),
    words("created_by"),
    number("expires_at_s"),
    number("last_used_at_s", nullable=True),
    number("revoked_at_s", nullable=True),
    UniqueConstraint("digest"),
    CheckConstraint("length(digest) = 64", name="digest"),
    CheckConstraint("expires_at_s > created_at_s", name="expires_at_s"),
    one_of("scope", tuple(role.value for role in Role)),
    Index(None, "user_id"),
)
