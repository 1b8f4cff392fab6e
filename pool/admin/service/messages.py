"""The operator's commands for messages, each once: what is wrong now, what is silenced, and whether messages
arrive.

A silence is kept in the record of changes and nowhere else (`pool.messages.silences`).
Must not know: sockets, terminals, how a message is sent.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, select

from payouts.schemas.money import containers, tenants
from pool.admin.command import Change, Commands, Question, no_state
from pool.admin.desk import Desk, OperatorDesk, wall_s
from pool.fleet.rows import RegistryError
from pool.messages.message import plain
from pool.messages.outbox import Answer
from pool.messages.silences import (
    REASON_CHARS_MAX,
    SILENCE_S_MAX,
    SUBJECT_CHARS_MAX,
    newest_silences,
    subject_problem,
)
from pool.people.roles import Role


class MessageList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class MessageSilence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`for_s` 0 ends it."""

    subject: str
    for_s: int
    reason: str


class MessageTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong, and whether that was told; or a silence, of which `kind` is `silence`."""

    kind: str
    subject: str
    since_at_s: int
    until_at_s: int | UnsetType = UNSET
    by: str | UnsetType = UNSET
    told: bool | UnsetType = UNSET
    words: str


class MessagesSilenced(msgspec.Struct, frozen=True, kw_only=True):
    """Until when a subject is silenced."""

    subject: str
    by: str
    until_at_s: int
    reason: str


def message_list(desk: Desk, it: MessageList) -> list[MessageRow]:
    """What is silenced; and what is wrong, where a pool runs that tells somebody."""
    now_s = wall_s()
    silences = desk.read(lambda connection: newest_silences(connection, now_s))
    rows = [
        MessageRow(
            kind="silence",
            subject=silence.subject,
            since_at_s=silence.made_at_s,
            until_at_s=silence.until_at_s,
            by=silence.by,
            words=silence.reason,
        )
        for silence in silences
        if silence.until_at_s > now_s
    ]
    raised = () if desk.live is None else desk.live.raised_messages()
    return rows + [MessageRow(**msgspec.structs.asdict(row)) for row in raised]


def message_silence(desk: OperatorDesk, it: MessageSilence) -> MessagesSilenced:
    problem = subject_problem(it.subject)
    if problem is not None:
        raise RegistryError(problem)
    if it.for_s > 0 and not desk.read(lambda connection: _is_there(connection, it.subject)):
        raise RegistryError(f"there is no {it.subject}: nothing would be silent; containers are TENANT.NAME")
    if not 0 <= it.for_s <= SILENCE_S_MAX:
        raise RegistryError(f"a silence is up to {SILENCE_S_MAX // 86_400} days")
    if not it.reason.strip() or len(it.reason) > REASON_CHARS_MAX:
        raise RegistryError(f"a silence has a reason, of up to {REASON_CHARS_MAX} characters")
    until_at_s, reason = wall_s() + it.for_s, it.reason.strip()
    # The record of it is all that there is of it.
    desk.note(None, {"until_at_s": until_at_s, "reason": reason})
    return MessagesSilenced(subject=it.subject, by=desk.by, until_at_s=until_at_s, reason=reason)


def _is_there(connection: Connection, subject: str) -> bool:
    """Whether a message can be about it: who types another name believes that nobody is woken."""
    what, _, name = subject.partition("/")
    if what not in ("container", "tenant"):
        return True
    query = select(tenants.c.name)
    if what == "container":
        query = select(tenants.c.name + "." + containers.c.name).join(containers)
    return name in {plain(it, SUBJECT_CHARS_MAX) for it in connection.scalars(query)}


def message_test(desk: Desk, it: MessageTest) -> Sequence[Answer]:
    """What everybody answered who is told; nobody is, where no pool runs."""
    return () if desk.live is None else desk.live.test_messages()


def silenced(it: MessageSilence) -> str:
    return it.subject


COMMANDS: Final[Commands] = {
    "message.list": Question(MessageList, message_list),
    "message.silence": Change(MessageSilence, message_silence, silenced, no_state, Role.OPERATOR),
    "message.test": Question(MessageTest, message_test, Role.OPERATOR, tells=True),
}
