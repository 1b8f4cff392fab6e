"""The policy of who has to agree, as the record of changes has it: whenever it is another than before.

Must not know: what waits by it.
"""

import msgspec
from sqlalchemy import Connection, select

from pool.admin.desk import wall_s
from pool.books.changes.changes import Unreadable, note_change, states
from pool.books.changes.schema import changes
from pool.books.store import Store
from pool.requests.policy import PEOPLE_MAX, POLICY, POLICY_SET, Approval


def noted_policy(connection: Connection) -> Approval:
    """What was in force last, for who comes without the settings; the strictest where it cannot be read."""
    query = select(changes).where(changes.c.command == POLICY_SET).order_by(changes.c.id.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return Approval()
    try:
        return msgspec.convert(states(row)[1], Approval)
    except (Unreadable, msgspec.ValidationError):
        return Approval(people=PEOPLE_MAX)


def note_policy(store: Store, policy: Approval, *, by: str, source: str) -> None:
    """Write down that it is another one than before: a row each time that it is."""
    with store.read() as connection:
        if noted_policy(connection) == policy:
            return
    with store.write() as connection:
        note_change(
            connection,
            by=by,
            source=source,
            command=POLICY_SET,
            subject=POLICY,
            # All of it, and not what differs: the newest row has what is in force.
            was=None,
            became=msgspec.to_builtins(policy),
            now_s=wall_s(),
        )
