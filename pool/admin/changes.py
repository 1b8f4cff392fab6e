"""The question who changed what. Must not know: sockets, terminals."""

import msgspec

from pool.admin.desk import Desk
from pool.books.changes.changes import ChangeRow, newest_changes


class ChangeList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one subject or of all; `before`: older ones than the change of this number."""

    subject: str | None = None
    before: int | None = None


def change_list(desk: Desk, it: ChangeList) -> tuple[ChangeRow, ...]:
    """The newest last."""
    return desk.read(lambda connection: newest_changes(connection, it.subject, it.before))
