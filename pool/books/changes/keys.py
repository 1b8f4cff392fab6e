"""Changes that were asked for under a key, so that who asks again, not knowing what became of it, changes
nothing more: the key is written in the transaction of the change, and what was answered behind it.

A key is its caller's: another's with the same words is another key. What it is about is known by the hash of
what was asked for, so that the same key for something else is found out.

Invariants: a change is there with its key or neither is. A caller has at most KEYS_MAX, the newest, and none
is kept for longer than KEPT_S; who has given no change has none. An answer with a secret is never kept.
Must not know: which commands there are.
"""

import hashlib
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from pool.books.changes.schema import change_keys

KEPT_S: Final = 86_400  # who asks again does it in minutes, and after a night when it broke in the evening
KEYS_MAX: Final = 1_000  # of a caller: whoever gives more in a day has long heard of the first
ANSWER_BYTES_MAX: Final = 65_536  # a longer one is not kept: 64 MiB are the most that a caller has here


class ChangeKey(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody calls one change that he asks for; `digest` is of what that is."""

    caller: str
    key: str
    digest: str


class KeyedChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept under a key; `change` is its number. Without an answer it had a secret, or was too long,
    or the pool was ended before it could be written."""

    digest: str
    change: int
    made_at_s: int
    answer: str | None


def digest_of(command: str, params: bytes) -> str:
    """Of what is asked for."""
    return hashlib.sha256(command.encode() + b"\0" + params).hexdigest()


def keyed_change(connection: Connection, key: ChangeKey, now_s: int) -> KeyedChange | None:
    """What was done under the key before."""
    columns = (change_keys.c[name] for name in KeyedChange.__struct_fields__)
    query = select(*columns).where(_is(key), change_keys.c.made_at_s > now_s - KEPT_S)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else KeyedChange(**row)


def note_key(connection: Connection, key: ChangeKey, change: int, now_s: int) -> None:
    """In the transaction of the change of that number. What is over goes, and what is too much."""
    connection.execute(delete(change_keys).where(change_keys.c.made_at_s <= now_s - KEPT_S))
    its = change_keys.c.caller == key.caller
    newest = select(change_keys.c.change).where(its).order_by(change_keys.c.change.desc())
    last = connection.scalar(newest.offset(KEYS_MAX - 1).limit(1))
    if last is not None:
        connection.execute(delete(change_keys).where(its, change_keys.c.change <= last))
    row = msgspec.structs.asdict(key) | {"change": change, "made_at_s": now_s, "answer": None}
    connection.execute(insert(change_keys).values(row))


def keep_answer(connection: Connection, key: ChangeKey, answer: bytes) -> None:
    """What was answered under the key, for who asks again."""
    if len(answer) <= ANSWER_BYTES_MAX:
        connection.execute(update(change_keys).where(_is(key)).values(answer=answer.decode()))


def _is(key: ChangeKey) -> ColumnElement[bool]:
    return (change_keys.c.caller == key.caller) & (change_keys.c.key == key.key)
