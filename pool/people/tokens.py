"""Tokens as rows: what a program shows to be let in as a user.

A token is `angara_NUMBER_SECRET`, the secret 256 random bits. It is shown once, when it is made; the row has
its SHA-256. That is enough, and argon2 would add nothing but load: a hash that is slow protects what people
can remember, and nobody guesses 256 bits, however fast a try is.

Invariants: a token ends, at the latest after a year; nothing lengthens it, and what was revoked stays so
(triggers). It never may more than its user may at that moment. Mistakes are RegistryError, in words.

Must not know: who may make one, and how it is shown.
"""

import hashlib
import re
import secrets
from typing import Final

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from payouts.book_time import book_time
from payouts.persons import NAME_CHARACTERS_MAX
from payouts.schemas.money import tenants
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Role
from pool.people.schema import tokens, users
from pool.people.users import find_user

DAY_S: Final = 86_400
DAYS_MAX: Final = 366  # who still needs it a year later still knows that he does
TOKENS_MAX: Final = 1_000  # that are valid at a time, of all users: their hashes are in memory
ENDED_MAX: Final = 1_000  # the newest of those that have ended: who still shows one is known by it
TOKENS_OF_USER_MAX: Final = 32
SECRET_BYTES: Final = 32
SHAPE: Final = re.compile(r"angara_([1-9][0-9]{0,8})_[A-Za-z0-9_-]{43}", re.ASCII)


class TokenView(msgspec.Struct, frozen=True, kw_only=True):
    """A token as commands show it: never the secret."""

    id: int
    user: str
    label: str
    scope: str
    created_at_s: int
    created_by: str
    expires_at_s: int
    last_used_at_s: int | None
    revoked_at_s: int | None


class Valid(msgspec.Struct, frozen=True, kw_only=True):
    """A token that lets somebody in, and as whom."""

    id: int
    scope: str
    expires_at_s: int
    last_used_at_s: int | None
    user_id: int
    user: str
    role: str
    tenant: str | None


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def number_of(token: str) -> int | None:
    """The number in it; None where it is no token at all."""
    found = SHAPE.fullmatch(token)
    return None if found is None else int(found[1])


def create_token(
    connection: Connection, user: str, label: str, scope: str | None, days: int, *, by: str, now_s: int
) -> tuple[TokenView, str]:
    """Its row, and the token itself, which nobody can tell again. Raises RegistryError."""
    owner = find_user(connection, user)
    if not 1 <= len(label) <= NAME_CHARACTERS_MAX or not label.isprintable() or label != label.strip():
        raise RegistryError(f"a label is 1 to {NAME_CHARACTERS_MAX} printable characters")
    if not 1 <= days <= DAYS_MAX:
        raise RegistryError(f"a token is for 1 to {DAYS_MAX} days")
    scope = _scope(scope, Role(owner.role))
    at_s = book_time(connection, now_s)
    _check_count(connection, owner.id, at_s)
    number = (connection.scalar(select(func.max(tokens.c.id))) or 0) + 1
    secret = f"angara_{number}_{secrets.token_urlsafe(SECRET_BYTES)}"
    connection.execute(
        insert(tokens).values(
            id=number,
            user_id=owner.id,
            label=label,
            scope=scope,
            digest=digest_of(secret),
            created_at_s=at_s,
            created_by=by,
            expires_at_s=at_s + days * DAY_S,
        )
    )
    return next(it for it in list_tokens(connection, user) if it.id == number), secret


def list_tokens(connection: Connection, user: str | None) -> tuple[TokenView, ...]:
    """Of one user or of all, those that have ended too, the newest last."""
    query = _TOKENS.order_by(tokens.c.id)
    if user is not None:
        query = query.where(tokens.c.user_id == find_user(connection, user).id)
    return tuple(TokenView(**row) for row in connection.execute(query).mappings())


def revoke_token(connection: Connection, user: str, number: int, now_s: int) -> TokenView:
    """From now on it lets nobody in. Raises RegistryError."""
    found = next((it for it in list_tokens(connection, user) if it.id == number), None)
    if found is None:
        raise RegistryError(f"{user} has no token {number}")
    if found.revoked_at_s is not None:  # whoever has it would write a row with each repetition, for ever
        raise RegistryError(f"token {number} of {user} is revoked already")
    revoked = update(tokens).where(tokens.c.id == number)
    connection.execute(revoked.values(revoked_at_s=book_time(connection, now_s)))
    return next(it for it in list_tokens(connection, user) if it.id == number)


def kept_of(connection: Connection, user: str) -> dict[str, dict[str, object]]:
    """All that is kept of a user's tokens in the history, by number: hashes, which are no secrets."""
    rows = connection.execute(_KEPT.where(users.c.name == user).order_by(tokens.c.id)).mappings()
    return {str(row["id"]): {name: row[name] for name in row if name != "id"} for row in rows}


def digests(connection: Connection, now_s: int) -> dict[int, str]:
    """Of every token that has not ended, and of the newest that have, by number."""
    here = tokens.c.revoked_at_s.is_(None) & (tokens.c.expires_at_s > now_s)
    kept = select(tokens.c.id, tokens.c.digest)
    ended = kept.where(~here).order_by(tokens.c.id.desc()).limit(ENDED_MAX)
    return dict([*connection.execute(kept.where(here)).all(), *connection.execute(ended).all()])


def valid_token(connection: Connection, number: int, now_s: int) -> Valid | None:
    """Whom it lets in at this moment; None where it has ended, or its user is suspended."""
    row = (
        connection.execute(
            _VALID.where(
                tokens.c.id == number,
                tokens.c.revoked_at_s.is_(None),
                tokens.c.expires_at_s > now_s,
                users.c.status == "active",
            )
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else Valid(**row)


def note_use(connection: Connection, number: int, now_s: int) -> None:
    """By the clock, and never back."""
    later = tokens.c.last_used_at_s.is_(None) | (tokens.c.last_used_at_s < now_s)
    connection.execute(update(tokens).where(tokens.c.id == number, later).values(last_used_at_s=now_s))


def _scope(scope: str | None, role: Role) -> str:
    """The user's role where nothing is said; never more than that."""
    if scope is None:
        return role.value
    if scope not in set(Role):
        raise RegistryError(f"{scope!r:.80} is none of {', '.join(Role)}")
    if Role(scope).rank > role.rank:
        raise RegistryError(f"a user with the role {role} makes no token with the scope {scope}")
    if scope == Role.METRICS and role is Role.TENANT:
        raise RegistryError("the pool's metrics have every tenant's business in them, and are not a tenant's")
    if scope == Role.TENANT and role is not Role.TENANT:
        raise RegistryError("the scope tenant is for users of that role")
    return scope


def _check_count(connection: Connection, user_id: int, now_s: int) -> None:
    valid = select(func.count()).where(tokens.c.revoked_at_s.is_(None), tokens.c.expires_at_s > now_s)
    if (connection.scalar(valid.where(tokens.c.user_id == user_id)) or 0) >= TOKENS_OF_USER_MAX:
        raise RegistryError(f"there are {TOKENS_OF_USER_MAX} valid tokens of that user: revoke one first")
    if (connection.scalar(valid) or 0) >= TOKENS_MAX:
        raise RegistryError(f"there are {TOKENS_MAX} valid tokens: revoke some first")


_TOKENS: Final = select(
    tokens.c.id,
    users.c.name.label("user"),
    tokens.c.label,
    tokens.c.scope,
    tokens.c.created_at_s,
    tokens.c.created_by,
    tokens.c.expires_at_s,
    tokens.c.last_used_at_s,
    tokens.c.revoked_at_s,
).join(users, users.c.id == tokens.c.user_id)
_KEPT: Final = select(
    tokens.c.id,
    tokens.c.label,
    tokens.c.scope,
    tokens.c.digest,
    tokens.c.created_at_s,
    tokens.c.created_by,
    tokens.c.expires_at_s,
    tokens.c.revoked_at_s,
).join(users, users.c.id == tokens.c.user_id)
_VALID: Final = select(
    tokens.c.id,
    tokens.c.scope,
    tokens.c.expires_at_s,
    tokens.c.last_used_at_s,
    users.c.id.label("user_id"),
    users.c.name.label("user"),
    users.c.role,
    tenants.c.name.label("tenant"),
).select_from(
    tokens.join(users, users.c.id == tokens.c.user_id).outerjoin(tenants, tenants.c.id == users.c.tenant_id)
)
