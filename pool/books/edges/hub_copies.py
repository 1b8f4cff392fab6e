"""Which hubs have acknowledged records of an edge's journal, as the books know it: no edge begins another
journal while one of them may have records on its disk that the books have not.

A hub writes its name down before it takes the first record, so none waits for a commit. With the lease it
says how far its copy is, half a minute late: at least so far. What others have is of no account any more
once an edge that has heard of this hub has said how far its journal is, and all of that is here. What this
hub has is of none when it ends in order, and the books have all of it.

What was on a disk that is gone for good is given up in words: behind which record. It is in the changes.

Must not know: how records come, who may give up what.
"""

import secrets
import socket
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from pool.books.edges.rows import EdgeRecord, in_use
from pool.books.edges.schema import edge_copies
from pool.books.journal.positions import position_of
from pool.fleet.registry_error import RegistryError
from pool.journal.inbox import InboxUnusable
from pool.whole_file import write_whole

NAME_CHARS_MAX: Final = 100
RANDOM_BYTES: Final = 4  # two hubs of one pool may have hosts of one name


class Here(msgspec.Struct, frozen=True):
    """What the hub that is asked has of a journal; `unbooked`: the books do not have all of it yet, or nobody
    can read it."""

    hub: str
    number: int
    unbooked: bool


class GivenUp(msgspec.Struct, frozen=True):
    """What that hub had of that journal, `number` records or more, behind one of them."""

    writer: str
    hub: str
    number: int
    behind: int


def name_of_hub(inbox: Path) -> str:
    """Of the copies in that directory: one that is lost has taken its name along. Raises InboxUnusable."""
    path = inbox / "hub"
    try:
        if not path.exists():
            inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = f"{socket.gethostname()[: NAME_CHARS_MAX // 2]}-{secrets.token_hex(RANDOM_BYTES)}"
            write_whole(path, f"{made}\n".encode())
        return path.read_bytes()[:NAME_CHARS_MAX].decode("ascii", "replace").strip()
    except OSError as error:
        raise InboxUnusable(f"{path}: {error.strerror or error}") from error


def is_noted(connection: Connection, writer: str, hub: str) -> bool:
    """Whether it has said that it has a copy of that journal."""
    mine = (edge_copies.c.writer == writer) & (edge_copies.c.hub == hub)
    return connection.scalar(select(edge_copies.c.number).where(mine)) is not None


def note_copy(connection: Connection, writer: str, hub: str, number: int) -> None:
    """It has that many records, or more."""
    mine = (edge_copies.c.writer == writer) & (edge_copies.c.hub == hub)
    found = connection.scalar(select(edge_copies.c.number).where(mine))
    if found is None:
        connection.execute(insert(edge_copies).values(writer=writer, hub=hub, number=number))
    elif found < number:
        connection.execute(update(edge_copies).where(mine).values(number=number))


def forget_others(connection: Connection, writer: str, hub: str) -> None:
    """Whatever they have, it has."""
    connection.execute(delete(edge_copies).where(edge_copies.c.writer == writer, edge_copies.c.hub != hub))


def forget_copy(connection: Connection, writer: str, hub: str) -> None:
    """The books have all that it has, and it takes no more."""
    connection.execute(delete(edge_copies).where(edge_copies.c.writer == writer, edge_copies.c.hub == hub))


def check_booked(connection: Connection, edge: EdgeRecord, here: Here | None) -> None:
    """That the books have all that any hub acknowledged of its journal; `here` is None where no hub runs.
    Raises RegistryError, in words that say what to do."""
    if here is not None and here.unbooked:
        raise RegistryError(
            f"not all that is here of edge {edge.name} is booked: wait until here and booked are the same"
            f" (`angara edge show {edge.name}`)"
        )
    last, beyond = _beyond(connection, edge, here)
    if not beyond:
        return
    if here is None:
        raise RegistryError(f"give it where a hub runs, which knows what is here of edge {edge.name}")
    hub, number = max(beyond.items(), key=lambda it: (it[0] != here.hub, it[1]))
    if hub == here.hub:
        words = f"record {number} of edge {edge.name} was at this hub, and {last} is: look for its disk"
    else:
        words = (
            f"hub {hub} has record {number} of edge {edge.name} on its disk, or more, and here is {last}:"
            " start it, and stop this one (`systemctl stop angara-hub`), so that it takes over and books what"
            " it has; then give this there"
        )
    raise RegistryError(
        f"{words}. Only where that disk is gone for good, a payer gives up {max(number - last, 0)} records or"
        " more that tenants were told are accepted:"
        f" `angara edge give-up {edge.name} --hub {hub} --behind {last}`"
    )


def give_up(
    connection: Connection, name: str, hub: str, behind: int, here: Here | None
) -> tuple[EdgeRecord, GivenUp]:
    """Whatever that hub had behind that record, the last that is here, is on no disk any more. Raises
    RegistryError."""
    edge = in_use(connection, name)
    last, beyond = _beyond(connection, edge, here)
    if edge.writer is None or hub not in beyond:
        others = ", ".join(sorted(beyond)) or "none has"
        raise RegistryError(f"{hub!r:.80} is no hub that has more of edge {name} than is here: {others}")
    if behind != last:
        raise RegistryError(f"of edge {name} record {last} is here, and {behind} is said: look again")
    forget_copy(connection, edge.writer, hub)
    if here is not None:
        note_copy(connection, edge.writer, here.hub, last)
    return edge, GivenUp(edge.writer, hub, beyond[hub], behind)


def _beyond(connection: Connection, edge: EdgeRecord, here: Here | None) -> tuple[int, dict[str, int]]:
    """The last record that is here, or booked; and the hubs that may have had more, with what each had."""
    if edge.writer is None:
        return 0, {}
    last = max(position_of(connection, edge.writer).at.number, 0 if here is None else here.number)
    rows = connection.execute(select(edge_copies).where(edge_copies.c.writer == edge.writer)).all()
    hubs = {it.hub: int(it.number) for it in rows}
    return last, {hub: it for hub, it in hubs.items() if here is None or hub != here.hub or it > last}
