"""The question who changed what. Must not know: sockets, terminals."""

from typing import Final

from pool.admin.command import Commands, Question
from pool.admin.desk import Desk
from pool.admin.pages import Page, Paged, begin_of, cursor_behind
from pool.books.changes.changes import CHANGES_MAX, ChangeRow, newest_changes


class ChangeList(Paged, frozen=True, forbid_unknown_fields=True):
    """Of one subject or of all; `before`: older ones than the change of this number."""

    subject: str | None = None
    before: int | None = None


def change_list(desk: Desk, it: ChangeList) -> Page[ChangeRow]:
    """The newest, and of these the newest last; a page behind has the next older ones."""
    before, limit = it.before, it.limit or CHANGES_MAX
    if it.cursor is not None:
        (begin,) = begin_of(it, (int,))
        before = int(begin) if before is None else min(before, int(begin))
    rows = desk.read(lambda connection: newest_changes(connection, it.subject, before, limit))
    return Page(rows, cursor_behind(it, (rows[0].id,)) if len(rows) == limit else None)


COMMANDS: Final[Commands] = {
    "change.list": Question(ChangeList, change_list),
}
