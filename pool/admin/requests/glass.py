"""Breaking the glass: an admin makes a change at once that had to wait, and says why; everybody is told.

Must not know: which changes wait, and how it is told.
"""

from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from pool.admin.desk import OperatorDesk, wall_s
from pool.books.changes.changes import note_change
from pool.fleet.rows import RegistryError
from pool.people.roles import Role
from pool.requests.policy import GLASS_BROKEN

log = structlog.get_logger()

REASON_CHARS_MAX: Final = 300


def glass_broken(desk: OperatorDesk, reason: str) -> OperatorDesk:
    """The desk, where a change is made that nobody agreed to; everybody is told. Raises RegistryError."""
    desk.caller.demand(Role.ADMIN, "to break the glass")
    if not is_reason(reason):
        raise RegistryError(f"why the glass is broken is 1 to {REASON_CHARS_MAX} printable characters")

    def note(connection: Connection) -> None:
        note_change(
            connection,
            by=desk.caller.name,
            source=desk.caller.source,
            command=GLASS_BROKEN,
            subject=desk.subject,
            was=None,
            became={"command": desk.command, "reason": reason},
            now_s=wall_s(),
        )

    log.warning("glass_broken", command=desk.command, subject=desk.subject, by=desk.by, reason=reason)
    return msgspec.structs.replace(desk, beside=note)


def is_reason(text: str, least: int = 1) -> bool:
    """Whether a person can read it, in a line."""
    return least <= len(text) <= REASON_CHARS_MAX and text.isprintable() and text == text.strip()
