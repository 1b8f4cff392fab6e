"""Payouts of several people at once: whatever else is done between two transactions of a command, nobody is
paid twice, or at an address that does not hold, or by one person alone.

A seed decides who does what. Each command may stop before any of its transactions, and others are carried out
meanwhile, as by another process: commands on the same batch, tenants who have other addresses, work, blocks
and reorganisations. Who has the keys may send what he was given by himself. At the end the chain and the
books have paid the same to each address.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Concatenate, Final, ParamSpec, TypeVar

import bdkpython as bdk
import pytest
import trio
from sqlalchemy import Connection

from payouts.audit.payouts import check_payouts
from payouts.batches.batch import AttemptState, Batch, BatchError, State
from payouts.batches.transaction import TxOutput
from payouts.ledger import LedgerError, in_payout
from pool.books.store import Store
from pool.chain.rpc import NodeError
from pool.fleet.rows import find_tenant, set_address, set_status
from pool.treasury.books import PayoutBooks
from pool.treasury.coins import TooFewCoins
from pool.treasury.paymaster import Paymaster
from pool.treasury.wallet import finalise
from tests.fixtures.databases import SqliteDatabases, fresh_store
from tests.histories.batches import credit_more
from tests.stages.payouts import PAYEES, SEND, Regtest, World, script_of, world_of

# Each is a second or two of a processor. 0, 5 and 7 find a batch that is given to a signer whatever its
# tenants said meanwhile, 11 a payment that is not booked back when its block has gone.
SEEDS: Final = (0, 5, 7, 11)
SEEDS_OF_A_SOAK: Final = range(20, 400)
TURNS: Final = 80
DEEP_MAX: Final = 2  # of commands that wait for one another
ROUNDS_MAX: Final = 20
HOUR_S: Final = 3600
CAPS_SAT: Final = (500, 20_000, 50_000)
PEOPLE: Final = ("ann", "bob", "cyd")
NAMES: Final = tuple(name for name, _, _ in PAYEES)
REFUSED: Final = (BatchError, LedgerError, NodeError, TooFewCoins)
UNGIVEN: Final = (AttemptState.PSBT, AttemptState.FAILED)

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")


class BooksOfMany(PayoutBooks):
    """Before each transaction others may have theirs."""

    def __init__(self, store: Store, clock: Callable[[], int], others: Callable[[], Awaitable[None]]) -> None:
        super().__init__(store, clock)
        self._others = others

    async def read(
        self,
        work: Callable[Concatenate[Connection, _Params], _Result],
        *args: _Params.args,
        **kwargs: _Params.kwargs,
    ) -> _Result:
        await self._others()
        return await super().read(work, *args, **kwargs)

    async def write(
        self,
        work: Callable[Concatenate[Connection, _Params], _Result],
        *args: _Params.args,
        **kwargs: _Params.kwargs,
    ) -> _Result:
        await self._others()
        return await super().write(work, *args, **kwargs)


class Company:
    """Everybody who has to do with the payouts of a pool."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._dice = random.Random(seed)
        self._turns = 0
        self._deep = 0
        self._works = 0
        self._alone = False
        self._given: list[tuple[int, bytes]] = []  # what a signer has, of which batch
        self._addresses = [
            *(address for _, address, _ in PAYEES),
            *(_address_of(b"\x00\x14" + bytes([number]) * 20) for number in range(1, 7)),
        ]
        self._before_sat = self._received_sat()
        self.done: Counter[str] = Counter()

    async def work(self) -> None:
        """All turns, and then until nothing is on its way."""
        while self._turns < TURNS:
            await self._turn()
            self._check_held()
        await self._come_to_rest()

    def check(self) -> None:
        """The chain has paid what the books have, to each address, and the audit finds nothing."""
        self._check_held()
        paid_sat: Counter[str] = Counter()
        for batch in self._world.batches():
            for item in batch.items if batch.state is State.FINAL else ():
                paid_sat[item.address] += item.amount_sat
        received_sat = self._received_sat()
        received_sat.subtract(self._before_sat)
        assert +received_sat == paid_sat
        fees_sat = sum(
            it.fee_sat
            for batch in self._world.batches()
            for it in batch.attempts
            if it.state is AttemptState.FINAL
        )
        assert self._world.balances().get("pool.coins", 0) == sum(paid_sat.values()) + fees_sat
        with self._world.store.read() as connection:
            check_payouts(connection)

    async def _turn(self) -> None:
        self._turns += 1
        turns = (self._next, self._next, self._command, self._people, self._chain)
        name, turn = self._dice.choice(turns)()
        self._deep += 1
        try:
            await turn()
            self.done[name] += 1
        except REFUSED:
            pass
        finally:
            self._deep -= 1

    async def _others(self) -> None:
        """In a task of their own, as they hold what they hold of the node's."""
        if self._deep <= DEEP_MAX and not self._alone and self._dice.random() < 0.2:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._turn)

    def _paymaster(self) -> Paymaster:
        world = self._world
        books = BooksOfMany(world.store, lambda: world.now_s, self._others)
        return Paymaster(books, world.nodes(), world.wallet, world.settings, script_of)

    def _next(self) -> tuple[str, Callable[[], Awaitable[object]]]:
        """What the oldest batch that is not over waits for."""
        going = self._going()
        if not going:
            return "draft", lambda: self._paymaster().create(self._person())
        batch = going[0]
        newest = batch.attempts[-1] if batch.attempts else None
        if batch.state is State.DRAFT:
            return "approve", lambda: self._approve(batch)
        if newest is None or newest.state in UNGIVEN:
            return "export", lambda: self._export(batch)
        if newest.state in (AttemptState.GIVEN, AttemptState.QUARANTINED):
            return "receive", lambda: self._receive(batch)
        if newest.state is AttemptState.SIGNED:
            return "send", lambda: self._paymaster().broadcast(batch.id, self._person())
        return "follow", self._mine_and_follow

    def _command(self) -> tuple[str, Callable[[], Awaitable[object]]]:
        """Whatever somebody gives, in whatever state a batch is."""
        batches = self._world.batches()
        if not batches:
            return "draft", lambda: self._paymaster().create(self._person())
        batch, by = self._dice.choice(batches[-3:]), self._person()
        commands: dict[str, Callable[[], Awaitable[object]]] = {
            "draft": lambda: self._paymaster().create(by),
            "approve": lambda: self._approve(batch),
            "export": lambda: self._export(batch),
            "receive": lambda: self._receive(batch),
            "send": lambda: self._paymaster().broadcast(batch.id, by),
            "bump": lambda: self._paymaster().bump(batch.id, by, self._dice.choice((None, 5, 30))),
            "cancel": lambda: self._paymaster().cancel(batch.id, by),
            "reconcile": lambda: self._paymaster().reconciler.run(by, ()),
            "follow": lambda: self._paymaster().follower.advance(),
        }
        if self._dice.random() < 0.2:
            return "cancel", commands["cancel"]
        return self._dice.choice(list(commands.items()))

    def _people(self) -> tuple[str, Callable[[], Awaitable[object]]]:
        """Tenants, and whoever has the keys."""
        name = self._dice.choice(NAMES)
        if self._dice.random() < 0.2:
            return "signer sends", self._signer_sends
        turns: dict[str, Callable[[], Awaitable[object]]] = {
            "work": lambda: self._mined(name),
            "address": lambda: self._say(name),
            "status": lambda: self._set_status(name),
            "signer sends": self._signer_sends,
            "days": self._wait,
        }
        return self._dice.choice(list(turns.items()))

    def _chain(self) -> tuple[str, Callable[[], Awaitable[object]]]:
        turns: dict[str, Callable[[], Awaitable[object]]] = {
            "blocks": lambda: self._world.mine(self._dice.choice((1, 6))),
            "reorganisation": self._reorganise,
            "dust": self._dust,
        }
        return self._dice.choice(list(turns.items()))

    def _person(self) -> str:
        return self._dice.choice(PEOPLE)

    async def _approve(self, batch: Batch) -> None:
        await self._paymaster().approve(
            batch.id, batch.digest, self._dice.choice(CAPS_SAT), self._dice.choice(PEOPLE)
        )

    async def _export(self, batch: Batch) -> None:
        """From here on the money can go, whatever anybody says later."""
        given = await self._paymaster().export(batch.id, self._person())
        known = any(number == batch.id for number, _ in self._given)
        self._given.append((batch.id, given.psbt))
        if not known:
            self._check_given(self._world.batch(batch.id))

    async def _receive(self, batch: Batch) -> None:
        given = [psbt for number, psbt in self._given if number == batch.id]
        if given:
            signed = self._world.signer.sign(self._dice.choice(given), finalise=self._dice.random() < 0.5)
            await self._paymaster().receive(batch.id, signed, self._person())

    async def _mine_and_follow(self) -> None:
        await self._world.mine(self._dice.choice((1, 6)))
        await self._paymaster().follower.advance()

    async def _mined(self, name: str) -> None:
        self._works += 1
        with self._world.store.read() as connection:
            tenant_id = find_tenant(connection, name).id
        credit_more(self._world, tenant_id, 40_000 + self._works, f"more work {self._works}")

    async def _say(self, name: str) -> None:
        address, now_s = self._dice.choice(self._addresses), self._world.now_s
        with self._world.store.write() as connection:
            set_address(connection, name, address, network="regtest", by=self._person(), now_s=now_s)

    async def _set_status(self, name: str) -> None:
        with self._world.store.write() as connection:
            set_status(connection, name, active=self._dice.random() < 0.9)

    async def _wait(self) -> None:
        self._world.now_s += self._dice.choice((1, 30, 80)) * HOUR_S

    async def _signer_sends(self) -> None:
        """What he has, by his own node, whatever became of it here."""
        if self._given:
            _, psbt = self._dice.choice(self._given)
            raw = finalise(psbt, self._world.signer.sign(psbt))
            await self._world.rpc.call(SEND, raw.hex(), 0)

    async def _reorganise(self) -> None:
        await self._world.reorganise(self._dice.choice((1, 6, 6)))
        if self._dice.random() < 0.5:
            self._world.forget_pending()

    async def _dust(self) -> None:
        own = self._world.signer.script(self._dice.randrange(5), change=True)
        await self._world.fund(TxOutput(self._dice.choice((600, 50_000)), own), deep=1)

    def _check_given(self, batch: Batch) -> None:
        assert any(it.approved_by != batch.created_by for it in batch.approvals)
        for item in batch.items:
            with self._world.store.read() as connection:
                tenant = find_tenant(connection, item.tenant)
            assert (tenant.status, tenant.address) == ("active", item.address)
            assert (tenant.address_effective_at_s or 0) <= self._world.now_s

    def _check_held(self) -> None:
        """What is on its way is what batches that are on their way pay."""
        held_sat: Counter[str] = Counter()
        for batch in self._going():
            for item in batch.items:
                held_sat[in_payout(item.tenant_id)] += item.amount_sat
        balances_sat = self._world.balances()
        assert {it: sat for it, sat in balances_sat.items() if it.endswith("in_payout")} == dict(held_sat)

    async def _come_to_rest(self) -> None:
        """What a signer has is paid; what he has not is called off."""
        self._alone = True
        for _ in range(ROUNDS_MAX):
            await self._world.mine(6)
            _, questions = await self._paymaster().reconciler.run("ann", ())
            assert questions == ()
            going = self._going()
            if not going:
                return
            for batch in going:
                with suppress(*REFUSED):
                    await self._finish(batch)
        pytest.fail("it never ended")

    async def _finish(self, batch: Batch) -> None:
        paymaster = self._paymaster()
        if all(it.state in UNGIVEN for it in batch.attempts):
            await paymaster.cancel(batch.id, "ann")
        elif batch.state is not State.CONFIRMED:
            other = next(it for it in PEOPLE if it != batch.created_by)
            await paymaster.approve(batch.id, batch.digest, CAPS_SAT[-1], other)
            given = await paymaster.export(batch.id, "ann")
            await paymaster.receive(batch.id, self._world.signer.sign(given.psbt), "ann")
            await paymaster.broadcast(batch.id, "ann")

    def _going(self) -> list[Batch]:
        """Batches that are not over."""
        return [it for it in self._world.batches() if it.state not in (State.FINAL, State.FAILED)]

    def _received_sat(self) -> Counter[str]:
        """What each address has on the chain."""
        scripts = {script_of(it): it for it in self._addresses}
        found: Counter[str] = Counter()
        for coin in self._world.chain.coins.values():
            if coin.script in scripts:
                found[scripts[coin.script]] += coin.amount_sat
        return found


def _address_of(script: bytes) -> str:
    return str(bdk.Address.from_script(bdk.Script(script), bdk.Network.REGTEST))


async def play(regtest: Regtest, store: Store, seed: int) -> Counter[str]:
    """A seed to its end; what was done in it."""
    async with world_of(regtest, store) as world:
        await world.mine(2)  # the coins are deeper than any reorganisation
        company = Company(world, seed)
        await company.work()
        company.check()
        return company.done


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("seed", SEEDS)
async def test_others_are_carried_out_between_two_transactions(
    regtest: Regtest, store: Store, seed: int
) -> None:
    done = await play(regtest, store, seed)
    assert sum(done.values()) > TURNS // 3, done


@pytest.mark.soak
async def test_hundreds_of_seeds(regtest: Regtest, sqlite_databases: SqliteDatabases) -> None:
    done: Counter[str] = Counter()
    for seed in SEEDS_OF_A_SOAK:
        with fresh_store(sqlite_databases) as store:
            done += await play(regtest, store, seed)
    assert len(done) == 17, f"every turn was taken: {done}"
