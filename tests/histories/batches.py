"""What people do with a batch when all goes well, and what a signer can do that has the keys."""

from payouts.batches.batch import Batch, State
from payouts.batches.transaction import TxOutput
from pool.treasury.chain_node import Answer
from pool.treasury.paymaster import Paymaster
from tests.stages.payouts import APPROVER, CREATOR, FEE_CAP_SAT, World, credit


async def approved(world: World, paymaster: Paymaster, fee_cap_sat: int = FEE_CAP_SAT) -> Batch:
    """A batch that two persons want."""
    batch = await paymaster.create(CREATOR)
    return await paymaster.approve(batch.id, batch.digest, fee_cap_sat, APPROVER)


async def signed(world: World, paymaster: Paymaster, batch_id: int, *, complete: bool = True) -> str:
    """Exported, signed elsewhere, imported: the txid."""
    given = await paymaster.export(batch_id, CREATOR)
    taken = await paymaster.receive(batch_id, world.signer.sign(given.psbt, finalise=complete), CREATOR)
    assert taken.txid == given.txid
    assert taken.warning is None
    return taken.txid


async def sent(world: World, paymaster: Paymaster) -> str:
    """A batch that is on its way: the txid."""
    batch = await approved(world, paymaster)
    txid = await signed(world, paymaster, batch.id)
    [answer] = await paymaster.broadcast(batch.id, CREATOR)
    assert answer.answer is Answer.SENT
    return txid


async def paid(world: World, paymaster: Paymaster) -> Batch:
    """A batch of what is payable, six blocks deep."""
    txid = await sent(world, paymaster)
    await world.mine(6)
    await paymaster.follower.advance()
    batch = world.batches()[-1]
    assert (batch.state, batch.attempts[-1].txid) == (State.FINAL, txid)
    return batch


async def given(world: World, paymaster: Paymaster) -> Batch:
    """A batch that a signer has, and nobody else."""
    batch = await approved(world, paymaster)
    await paymaster.export(batch.id, CREATOR)
    return world.batch(batch.id)


async def publish(world: World, batch: Batch, *outputs: TxOutput, deep: int = 6) -> str:
    """The signer spends the anchor to outputs of its own choice, with its own node: the txid."""
    world.forget_pending()
    anchor = batch.attempts[0].anchor
    txid = await world.spend(anchor, *outputs)
    await world.mine(deep)
    return txid


def credit_more(world: World, tenant_id: int, sat: int, key: str) -> None:
    """More work of a tenant."""
    with world.store.write() as connection:
        credit(connection, tenant_id, sat, key)
