"""A backup is restored in the middle of a payout: nothing is paid until the books agree with the chain.

The backup knows less than the chain does. Whatever is forgotten (a signature, a fee bump, the whole batch,
several batches), nobody is paid twice, and in the end the books are what they were before.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from payouts.batches.batch import AttemptState, State
from payouts.batches.psbt import Spend
from payouts.batches.transaction import TxOutput
from pool.books.audit.verify import verify
from pool.books.changes.changes import newest_changes
from pool.books.copies.restores import note_restore
from pool.books.store import open_store
from pool.cli.bookkeeping.database_copies import back_up, restore
from pool.treasury.paymaster import Paymaster
from pool.treasury.suspects import NotReconciled
from tests.fixtures.databases import SqliteDatabases
from tests.stages.payouts import (
    APPROVER,
    COIN_SAT,
    COINS,
    CREATOR,
    FEE_CAP_SAT,
    NOW_S,
    PAID_SAT,
    Regtest,
    World,
    credit,
    world_of,
)

TOTAL_SAT = sum(PAID_SAT.values())
MORE_SAT = 50_000
STRANGER_SCRIPT = b"\x00\x14" + bytes(range(20))


@pytest.fixture
def short_chain(tmp_path: Path) -> Iterator[Regtest]:
    """After a restore every block is looked at: of a chain that no other test made longer."""
    chain = Regtest(tmp_path / "chain")
    yield chain
    chain.close()


class Backups:
    """Copies of the world's database, by name."""

    def __init__(self, world: World, url: str) -> None:
        self._world = world
        self._path = Path(url.removeprefix("sqlite:///"))

    def take(self, name: str) -> None:
        with sqlite3.connect(self._path) as source, sqlite3.connect(self._copy(name)) as copy:
            source.backup(copy)
        source.close()
        copy.close()

    def restore(self, name: str) -> Paymaster:
        """The pool is stopped, its database replaced, and the pool started again."""
        self._world.store.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        self._path.write_bytes(self._copy(name).read_bytes())
        self._world.store = open_store(f"sqlite:///{self._path}")
        return self._world.paymaster()

    def _copy(self, name: str) -> Path:
        return self._path.with_name(f"{name}.backup")


@asynccontextmanager
async def backed_up(regtest: Regtest, databases: SqliteDatabases) -> AsyncIterator[tuple[World, Backups]]:
    with databases.fresh_url() as url:
        async with world_of(regtest, open_store(url)) as world:
            yield world, Backups(world, url)
            world.store.close()


async def pay(world: World, note: Callable[[str], None] = lambda _: None, *, bump: bool = False) -> int:
    """A batch from its draft to the last confirmation; `note` is told of every state. Its number."""
    paymaster = world.paymaster()
    batch = await paymaster.create(CREATOR)
    note("draft")
    await paymaster.approve(batch.id, batch.digest, FEE_CAP_SAT, APPROVER)
    note("approved")
    await sign_and_send(world, paymaster, batch.id, note)
    if bump:
        await paymaster.bump(batch.id, CREATOR, 10)
        await sign_and_send(world, paymaster, batch.id, lambda _: None)
    await world.mine(6)
    await paymaster.follower.advance()
    assert world.batch(batch.id).state is State.FINAL
    return batch.id


async def sign_and_send(
    world: World, paymaster: Paymaster, batch_id: int, note: Callable[[str], None]
) -> None:
    given = await paymaster.export(batch_id, CREATOR)
    note("psbt")
    await paymaster.receive(batch_id, world.signer.sign(given.psbt), CREATOR)
    note("signed")
    await paymaster.broadcast(batch_id, CREATOR)
    note("broadcast")


def credit_more(world: World, key: str) -> None:
    with world.store.write() as connection:
        credit(connection, 1, MORE_SAT, key)


async def approved(world: World, paymaster: Paymaster) -> int:
    """The newest batch, or a new one, drafted and approved by people who do not know better."""
    batches = world.batches()
    batch = batches[-1] if batches and batches[-1].state is not State.FAILED else None
    if batch is None:
        batch = await paymaster.create(CREATOR)
    if batch.state is State.DRAFT:
        await paymaster.approve(batch.id, batch.digest, FEE_CAP_SAT, APPROVER)
    return batch.id


async def assert_refuses(world: World, paymaster: Paymaster) -> None:
    """No command that leads to a payment works."""
    batch = world.batch(await approved(world, paymaster))
    with pytest.raises(NotReconciled):
        await paymaster.export(batch.id, CREATOR)
    if batch.attempts:
        for command in (
            paymaster.receive(batch.id, b"whatever", CREATOR),
            paymaster.broadcast(batch.id, CREATOR),
            paymaster.bump(batch.id, CREATOR, 20),
        ):
            with pytest.raises(NotReconciled):
                await command
    assert world.batch(batch.id).attempts == batch.attempts


@pytest.mark.parametrize(
    ("state", "bump"),
    [
        ("nothing", False),
        ("nothing", True),
        ("draft", False),
        ("approved", True),
        ("psbt", False),
        ("psbt", True),
        ("signed", False),
    ],
)
async def test_a_backup_of_any_state_is_brought_up_to_the_chain(
    regtest: Regtest, sqlite_databases: SqliteDatabases, state: str, bump: bool
) -> None:
    async with backed_up(regtest, sqlite_databases) as (world, backups):
        backups.take("nothing")
        await pay(world, backups.take, bump=bump)
        after, fee_sat = world.balances(), world.batch().attempts[-1].fee_sat
        paymaster = backups.restore(state)
        await assert_refuses(world, paymaster)
        news, questions = await paymaster.reconciler.run(CREATOR, ())
        assert questions == ()
        assert news
        [batch] = world.batches()
        assert batch.state is State.FINAL
        assert world.balances() == after
        assert world.paid_sat() == PAID_SAT
        assert world.wallet_sat() == COINS * COIN_SAT - TOTAL_SAT - fee_sat
        assert await paymaster.reconciler.run(CREATOR, ()) == ((), ())


async def test_a_forgotten_bump_is_adopted(regtest: Regtest, sqlite_databases: SqliteDatabases) -> None:
    async with backed_up(regtest, sqlite_databases) as (world, backups):
        await pay(world, backups.take, bump=True)
        after = world.balances()
        paymaster = backups.restore("broadcast")
        [news] = await paymaster.follower.advance()
        assert "run `angara payout reconcile`" in news
        assert world.batch().state is State.BROADCAST
        await paymaster.reconciler.run(CREATOR, ())
        states = [it.state for it in world.batch().attempts]
        assert states == [AttemptState.REPLACED, AttemptState.FINAL]
        assert world.balances() == after


async def test_a_batch_that_was_broadcast_just_goes_on(
    regtest: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    async with backed_up(regtest, sqlite_databases) as (world, backups):
        await pay(world, backups.take)
        after = world.balances()
        await backups.restore("broadcast").follower.advance()
        assert world.batch().state is State.FINAL
        assert world.balances() == after


async def test_a_forgotten_second_batch_is_found_by_its_anchor(
    regtest: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    async with backed_up(regtest, sqlite_databases) as (world, backups):
        await pay(world)
        credit_more(world, "more")
        backups.take("one")
        await pay(world)
        after = world.balances()
        paymaster = backups.restore("one")
        with pytest.raises(NotReconciled, match="change of the last payout"):
            await paymaster.create(CREATOR)
        await paymaster.reconciler.run(CREATOR, ())
        assert [it.state for it in world.batches()] == [State.FINAL] * 2
        assert world.balances() == after


async def test_several_forgotten_batches_are_found_one_after_the_other(
    regtest: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    async with backed_up(regtest, sqlite_databases) as (world, backups):
        await pay(world)
        credit_more(world, "more")
        backups.take("one")
        await pay(world)
        credit_more(world, "still more")
        await pay(world)
        after = world.balances()
        paymaster = backups.restore("one")
        credit_more(world, "still more")  # the journal was kept, and is accrued again
        await paymaster.reconciler.run(CREATOR, ())
        assert [it.state for it in world.batches()] == [State.FINAL] * 3
        assert world.balances() == after


async def test_two_batches_forgotten_from_the_first_on(
    regtest: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    """The change of the first is spent, and no anchor leads to it: the second does."""
    async with backed_up(regtest, sqlite_databases) as (world, backups):
        backups.take("nothing")
        await pay(world)
        credit_more(world, "more")
        await pay(world)
        after = world.balances()
        paymaster = backups.restore("nothing")
        credit_more(world, "more")
        news, questions = await paymaster.reconciler.run(CREATOR, ())
        assert questions == ()
        assert len(world.batches()) == 2
        assert world.balances() == after
        assert sum("did not know" in it for it in news) == 2


async def test_a_payout_that_is_only_pending_cannot_be_paid_again(
    regtest: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    """The chain says nothing yet. The new transaction spends the same anchor: one of them confirms."""
    async with backed_up(regtest, sqlite_databases) as (world, backups):
        paymaster = world.paymaster()
        batch = await paymaster.create(CREATOR)
        await paymaster.approve(batch.id, batch.digest, FEE_CAP_SAT, APPROVER)
        backups.take("approved")
        await sign_and_send(world, paymaster, batch.id, lambda _: None)
        [forgotten] = world.pending()
        await world.fund(TxOutput(9 * COIN_SAT, world.signer.script(7)), deep=0)
        paymaster = backups.restore("approved")
        given = await paymaster.export(1, CREATOR, 3)
        assert given.txid != forgotten
        await paymaster.receive(1, world.signer.sign(given.psbt), CREATOR)
        await paymaster.broadcast(1, CREATOR)
        assert len(set(world.pending()) & {forgotten, given.txid}) == 1
        await world.mine(6)
        await paymaster.follower.advance()
        await paymaster.reconciler.run(CREATOR, ())
        assert world.batch().state is State.FINAL
        assert world.paid_sat() == PAID_SAT


async def test_a_batch_that_was_cancelled_and_yet_paid_is_held_again(
    regtest: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    async with backed_up(regtest, sqlite_databases) as (world, backups):
        await pay(world, backups.take)
        after = world.balances()
        paymaster = backups.restore("approved")
        await paymaster.cancel(1, CREATOR)
        await assert_refuses(world, paymaster)
        await paymaster.cancel(2, CREATOR)
        await paymaster.reconciler.run(CREATOR, ())
        assert [it.state for it in world.batches()].count(State.FINAL) == 1
        assert world.balances() == after


async def test_a_payout_that_the_books_cannot_cover_is_a_question(
    regtest: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    async with backed_up(regtest, sqlite_databases) as (world, backups):
        backups.take("nothing")
        credit_more(world, "more")
        await pay(world)
        paymaster = backups.restore("nothing")
        _, [question] = await paymaster.reconciler.run(CREATOR, ())
        assert f"pays acme {MORE_SAT} sat more than these books owe it" in question
        credit_more(world, "more")
        _, questions = await paymaster.reconciler.run(CREATOR, ())
        assert questions == ()


# Coins that were moved by other software


async def test_coins_moved_to_ourselves_are_explained_without_a_person(
    regtest: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    async with backed_up(regtest, sqlite_databases) as (world, _):
        await pay(world)
        await move_change(world, world.signer.script(3))
        credit_more(world, "more")
        paymaster = world.paymaster()
        with pytest.raises(NotReconciled):
            await paymaster.create(CREATOR)
        [news], questions = await paymaster.reconciler.run(CREATOR, ())
        assert (news.split(" ", 1)[1], questions) == ("is no payout: it moves coins to ourselves", ())
        await pay(world)
        assert world.paid_sat() == {**PAID_SAT, "acme": PAID_SAT["acme"] + MORE_SAT}


async def test_coins_moved_elsewhere_are_a_question(
    regtest: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    async with backed_up(regtest, sqlite_databases) as (world, _):
        await pay(world)
        txid = await move_change(world, STRANGER_SCRIPT)
        credit_more(world, "more")
        paymaster = world.paymaster()
        _, [question] = await paymaster.reconciler.run(CREATOR, ())
        assert f"--accept {txid}" in question
        with pytest.raises(NotReconciled):
            await paymaster.create(CREATOR)
        for person, left in ((CREATOR, 1), (CREATOR, 1), (APPROVER, 0)):
            _, questions = await paymaster.reconciler.run(person, [txid])
            assert len(questions) == left
        await pay(world)
        assert world.paid_sat() == {**PAID_SAT, "acme": PAID_SAT["acme"] + MORE_SAT}


async def test_a_payout_cannot_be_accepted_as_none(
    regtest: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    async with backed_up(regtest, sqlite_databases) as (world, backups):
        await pay(world, backups.take)
        after, txid = world.balances(), world.batch().attempts[0].txid
        paymaster = backups.restore("approved")
        for person in (CREATOR, APPROVER):
            await paymaster.reconciler.run(person, [txid])
        assert world.balances() == after


async def move_change(world: World, script: bytes) -> str:
    """Other software spends the change of the last payout."""
    batch = world.batches()[-1]
    paid, change = batch.attempts[-1].txid, batch.attempts[-1].change
    assert change is not None
    coin = Spend(paid, len(batch.items), change.amount_sat, change.script)
    txid = await world.spend(coin, TxOutput(coin.amount_sat - 5_000, script))
    await world.mine(6)
    return txid


# With the commands that make a backup and put it back


async def test_the_drill(short_chain: Regtest, sqlite_databases: SqliteDatabases, tmp_path: Path) -> None:
    """Work, back up, work on and pay, lose the book, restore, reconcile, verify: nobody is paid twice."""
    with sqlite_databases.fresh_url() as url:
        book, copy = Path(url.removeprefix("sqlite:///")), tmp_path / "copy"
        async with world_of(short_chain, open_store(url)) as world:
            back_up(book, None, copy, replace=False, told=lambda done, total: None)
            await pay(world)
            after = world.balances()
            world.store.close()
            for file in book.parent.glob("angara.db*"):
                file.unlink()
            restored = restore(copy, book, None, "ann", told=lambda done, total: None)
            assert (restored.set_aside, restored.standing.batches) == (None, 0)
            world.store = open_store(url)
            paymaster = world.paymaster()
            with pytest.raises(NotReconciled, match="restored from a backup"):
                await paymaster.create(CREATOR)
            news, questions = await paymaster.reconciler.run(CREATOR, ())
            assert ("these books did not know" in news[0], questions) == (True, ())
            assert world.balances() == after
            assert world.paid_sat() == PAID_SAT
            with world.store.read() as connection:
                assert verify(connection).wrong is None
                said = [it.command for it in newest_changes(connection, None, None)]
            assert said == ["db.restore", "payout.reconcile"]
            credit_more(world, "more")
            await pay(world)
            assert world.paid_sat() == {**PAID_SAT, "acme": PAID_SAT["acme"] + MORE_SAT}
            world.store.close()


async def test_a_forgotten_payout_is_found_where_no_coin_leads_to_it(
    short_chain: Regtest, sqlite_databases: SqliteDatabases
) -> None:
    """Its change was moved elsewhere by other software: the coins that are left look as if nothing was
    paid."""
    async with backed_up(short_chain, sqlite_databases) as (world, backups):
        backups.take("nothing")
        await pay(world)
        after = world.balances()
        await move_change(world, STRANGER_SCRIPT)
        paymaster = backups.restore("nothing")
        with world.store.write() as connection:
            note_restore(connection, "ann", {}, NOW_S - 1)  # its clock went wrong before
        with pytest.raises(NotReconciled, match="restored from a backup"):
            await paymaster.create(CREATOR)
        _, questions = await paymaster.reconciler.run(CREATOR, ())
        assert world.balances() == after
        assert len(questions) == 1  # who has the change
        with pytest.raises(NotReconciled, match="restored from a backup"):
            await paymaster.create(CREATOR)
