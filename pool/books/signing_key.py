"""The key that is signed with, where it is another than the book's: the book's is changed to it, once, by a
row that both keys sign, before anything is signed by the new one.

Must not know: where keys are kept, and what is signed.
"""

from functools import partial

import structlog

from payouts.proof.key import ProofKey
from payouts.proof.key_changes import due_key_change, note_key_change
from pool.books.database_waits import read_books, write_books
from pool.books.store import Store

log = structlog.get_logger()


async def change_key(store: Store, key: ProofKey) -> None:
    """Raises NoSigning where the book's key cannot be changed to it: nothing is to be signed then."""
    change = await read_books(store, partial(due_key_change, key=key))
    if change is not None and await write_books(store, partial(note_key_change, it=change)):
        log.warning(
            "proof_key_changed",
            change=change.change,
            former=change.former,
            key=change.key,
            former_lost=change.lost,
        )
