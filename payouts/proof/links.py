"""Which row comes next in a chain of signed rows, and whose key signs it.

Roots, closings and changes of keys are a chain each. A change stands in the other two chains as well, between
the rows before it and those after: the next root, and the next closing, name it as what is before them. So no
key can be another's successor unseen, and who compares the newest row of a list has compared its keys.

Invariants: a book has one key at a time, and no row of another's. Must not know: how rows are made.
"""

from typing import Final

from sqlalchemy import Connection, Table, select

from payouts.ledger import GENESIS_HASH
from payouts.proof.key import NoSigning, ProofKey
from payouts.schemas.proof import key_changes, liability_roots, share_closings

# What a change says of a chain: the number that it is behind.
BEHIND: Final = {liability_roots.name: key_changes.c.root, share_closings.name: key_changes.c.closing}


def next_link(connection: Connection, chain: Table) -> tuple[int, str]:
    """The number of a chain's next row, and the hash of what is before it."""
    of = chain.c
    last = connection.execute(select(of.number, of.hash).order_by(of.number.desc()).limit(1)).one_or_none()
    number, previous = (last.number, last.hash) if last else (0, GENESIS_HASH)
    if (behind := BEHIND.get(chain.name)) is not None:
        newest = select(key_changes.c.hash).where(behind == number).order_by(key_changes.c.number.desc())
        previous = connection.scalar(newest.limit(1)) or previous
    return number + 1, previous


def key_of_book(connection: Connection) -> str | None:
    """The public key that its next row is signed by; None where nothing is signed yet."""
    for chain in (key_changes, liability_roots, share_closings):
        newest = select(chain.c.key).order_by(chain.c.number.desc()).limit(1)
        if (key := connection.scalar(newest)) is not None:
            return str(key)
    return None


def see_that_it_signs(connection: Connection, key: ProofKey) -> None:
    """Raises NoSigning where the book's key is another."""
    of_book = key_of_book(connection)
    if of_book not in (None, key.public.hex()):
        raise NoSigning(
            f"the book's key is {of_book}, and that of the settings {key.public.hex()}: name the file of the"
            " first in former_key_files of [proof], or, where nobody has it any more, that key itself as"
            " former_key_lost"
        )
