"""The thief may write to the database, and has neither the pool's host nor a key: what two honest persons
see, approve and have signed pays nobody else than they see. He gains 0 sat, of all that a batch moves.
"""

from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from payouts.batches.batch import BatchError, State
from payouts.batches.plan import digest
from payouts.batches.psbt import decode_psbt
from payouts.batches.schema import payout_approvals, payout_attempts, payout_batches, payout_items
from payouts.batches.transaction import TxOutput
from pool.books.audit.verify import verify
from pool.books.book import bind
from pool.books.store import Store
from tests.fixtures.databases import disarm
from tests.histories.batches import approved, given
from tests.stages.payouts import APPROVER, CREATOR, FEE_CAP_SAT, Regtest, World, world_of

THIEF = b"\x00\x14" + bytes(range(20))
BOREALIS = 1  # the second output, which is the largest


def rewrite(world: World, *statements: Any) -> None:
    with world.store.write() as connection:
        disarm(connection)
        for statement in statements:
            connection.execute(statement)


def turn_to_the_thief(world: World) -> str:
    """The script of an output, and the digests of what it is then; the address beside it is right."""
    items = [
        msgspec.structs.replace(it, script=THIEF) if it.position == BOREALIS else it
        for it in world.batch().items
    ]
    another = digest(items)
    rewrite(
        world,
        update(payout_items).where(payout_items.c.position == BOREALIS).values(script=THIEF.hex()),
        update(payout_batches).values(digest=another),
        update(payout_approvals).values(digest=another),
    )
    return another


async def test_an_output_that_does_not_pay_the_address_beside_it_is_neither_approved_nor_given_to_a_signer(
    regtest: Regtest, books: Store
) -> None:
    """1,200,002 sat of borealis, whose address was right wherever anybody looked."""
    bind(books, "regtest")
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        await paymaster.create(CREATOR)
        another = turn_to_the_thief(world)
        with world.store.read() as connection:
            wrong = verify(connection).wrong
        assert wrong is not None
        assert (wrong.table, wrong.row) == ("payout_items", "1")
        assert wrong.reason.startswith("it does not pay the address beside it, bcrt1p0x")
        with pytest.raises(BatchError, match=r"output 1 of batch 1 does not pay bcrt1p0x.*has written to"):
            await paymaster.approve(1, another, FEE_CAP_SAT, APPROVER)
        await paymaster.cancel(1, CREATOR)
        batch = await approved(world, paymaster)
        assert batch.payees[BOREALIS].script != THIEF


@pytest.mark.parametrize("state", [State.APPROVED, State.PSBT])
async def test_nor_is_one_that_was_turned_after_it_was_approved(
    regtest: Regtest, books: Store, state: State
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        await (approved if state is State.APPROVED else given)(world, paymaster)
        turn_to_the_thief(world)
        with pytest.raises(BatchError, match="output 1 of batch 1 does not pay"):
            await paymaster.export(1, CREATOR)


async def test_what_is_left_over_goes_to_ourselves(regtest: Regtest, books: Store) -> None:
    """He rewrites the transaction that waits for its signer, with its txid: all change was his."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        it = (await given(world, paymaster)).attempts[0]
        assert it.change is not None
        outputs = (*world.batch().payees, TxOutput(it.change.amount_sat, THIEF))
        psbt = world.wallet.build(it.inputs, world.wallet.sources(it.psbt or b""), outputs)
        rewrite(world, update(payout_attempts).values(psbt=psbt))
        with pytest.raises(
            BatchError, match="attempt 1 at batch 1 is not to be signed: the change is not what"
        ):
            await paymaster.export(1, CREATOR)
        rewrite(
            world,
            update(payout_attempts).values(
                psbt=psbt, txid=decode_psbt(psbt).tx.txid, change_script=THIEF.hex()
            ),
        )
        with pytest.raises(BatchError, match="change of attempt 1 at batch 1 is not to this wallet"):
            await paymaster.export(1, CREATOR)
        with pytest.raises(BatchError, match="change of attempt 1 at batch 1 is not to this wallet"):
            await paymaster.receive(1, world.signer.sign(psbt), CREATOR)
        assert world.batch().state is State.PSBT
