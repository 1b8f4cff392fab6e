"""The audit of what payouts pay: each output's script is that of the address beside it, which persons see.

Whoever may write to the database writes a digest as well, so a batch does not tell by itself.

Must not know: whose address it is.
"""

from sqlalchemy import Connection, func, select

from payouts.audit.finding import Found
from payouts.batches.schema import payout_items
from payouts.schemas.book import book
from pool.chain.addresses import BadAddress, script_for


def check_outputs(connection: Connection) -> None:
    """Raises Found for the first batch with another script. Of a book of no network nothing is known."""
    network = connection.scalar(select(book.c.network))
    if network is None:
        return
    of = payout_items.c
    batch = func.min(of.batch_id)
    pairs = select(of.address, of.script, batch.label("batch_id")).group_by(of.address, of.script)
    for row in connection.execute(pairs.order_by(batch, of.address, of.script)):
        try:
            right = script_for(row.address, network).hex()
        except BadAddress:
            continue  # one that a version of before took: persons saw it
        if row.script != right:
            reason = f"it does not pay the address beside it, {row.address:.100}"
            raise Found("payout_items", row.batch_id, reason)
