"""An operator's command where no pool runs: on the books themselves, by whoever can open them.

Must not know: what the command does.
"""

from typing import Any

from pool.admin.commands import execute_alone
from pool.cli.books import Books
from pool.cli.logs import set_up_logs
from pool.cli.opened_books import place_of, proof_key_of
from pool.cli.operator import operator


def execute_without_pool(books: Books, command: str, body: bytes) -> Any:
    """Its result; a change makes the books where there are none. Raises BadConfig, RegistryError,
    StoreError."""
    place = place_of(books)
    set_up_logs()
    paying = None
    if command.startswith("payout."):
        from pool.cli.opened_paymaster import treasury_of  # nodes and wallets are nobody else's

        paying = treasury_of(books)
    proof = None
    if command.startswith("statement."):
        proof = proof_key_of(books)
    return execute_alone(
        place.url,
        place.network,
        command,
        body,
        operator(),
        token=books.token,
        paying=paying,
        policy=place.policy,
        durations=place.durations,
        glass=books.glass,
        proof=proof,
    )
