"""Payouts in a world of money: who drafts, approves, exports and sends them, and whoever has the keys."""

import re
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

import trio
from sqlalchemy import Connection

from payouts.batches.batch import AttemptState, Batch, State, batches_in
from payouts.batches.transaction import TxOutput
from pool.fleet.rows import find_tenant
from pool.treasury.books import PayoutBooks
from pool.treasury.paymaster import Paymaster
from pool.treasury.wallet import finalise
from tests.simulation.money_trade import some
from tests.simulation.money_world import PERSONS, REFUSALS, Acts, MoneyWorld, Nothing, Wrong
from tests.stages.payouts import SEND, script_of

FEE_CAPS_SAT: Final = (500, 20_000, 50_000)
FEE_CAP_SAT: Final = 50_000
FEE_RATES: Final = (None, 5, 9, 30)  # sat/vB
OF_LATE: Final = 3  # batches, or PSBTs, that somebody still thinks of
OTHER_FEE_SAT, LEAST_CHANGE_SAT = 3_000, 20_000
ENDED: Final = (State.FINAL, State.FAILED)
ROUNDS_OF_REST: Final = 12
TXID: Final = re.compile(r"\b[0-9a-f]{64}\b")
NOT_GIVEN: Final = (AttemptState.PSBT, AttemptState.FAILED)

_P = ParamSpec("_P")
_R = TypeVar("_R")


class JudgedBooks(PayoutBooks):
    """Every transaction that gives a batch to whoever signs is looked at before it is committed: from then
    on the money may go."""

    def __init__(self, world: MoneyWorld) -> None:
        super().__init__(world.store, lambda: world.now_s)

    async def write(
        self,
        work: Callable[Concatenate[Connection, _P], _R],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R:
        def judged(connection: Connection) -> _R:
            before = {it.id for it in batches_in(connection) if _is_given(it)}
            done = work(connection, *args, **kwargs)
            for it in batches_in(connection):
                if it.id not in before and it.state is State.PSBT and _is_given(it):
                    _may_be_given(connection, it, self.now_s())
            return done

        return await super().write(judged)


def _is_given(it: Batch) -> bool:
    return any(attempt.state not in NOT_GIVEN for attempt in it.attempts)


def _may_be_given(connection: Connection, batch: Batch, now_s: int) -> None:
    """Each output to an address in force of who is active; and two persons agreed."""
    for item in batch.items:
        of = find_tenant(connection, item.tenant)
        if of.status != "active":
            raise Wrong("a batch is given that pays who is suspended", f"{batch.id}: {of.name}")
        effective_s = of.address_effective_at_s
        if of.address != item.address or effective_s is None or effective_s > now_s:
            raise Wrong(
                "a batch is given that pays no address in force",
                f"{batch.id}: {item.address}, {of.name} has {of.address} from {effective_s}, it is {now_s}",
            )
    if not any(it.approved_by != batch.created_by for it in batch.approvals):
        raise Wrong("a batch is given that one person made", batch.id)


class Payers:
    """`given` is what a signer ever had: batch, and the PSBT."""

    def __init__(self, world: MoneyWorld) -> None:
        self._world, self._chance = world, world.chance
        self._given: list[tuple[int, bytes]] = []
        self._mining = trio.Lock()  # blocks that replace others are made with nobody else's between them

    @property
    def acts(self) -> Acts:
        return {
            "drafts": (4, self._draft),
            "approves": (4, self._approve),
            "exports": (4, self._export),
            "imports": (3, self._import),
            "sends": (3, self._send),
            "bumps": (3, self._bump),
            "cancels": (2, self._cancel),
            "takes the newest further": (26, self._further),
            "follows": (4, self._follow),
            "reconciles": (2, self._reconcile),
            "finds blocks": (4, self._find_blocks),
            "replaces blocks": (2, self._replace_blocks),
            "signs and sends elsewhere": (1, self._send_elsewhere),
            "spends the coin otherwise": (1, self._spend_otherwise),
            "is sent change": (1, self._be_sent_change),
        }

    def _paymaster(self) -> Paymaster:
        world = self._world
        return Paymaster(
            JudgedBooks(world), world.payouts.nodes(), world.payouts.wallet, world.payouts.settings, script_of
        )

    def batches(self) -> tuple[Batch, ...]:
        return self._world.read(batches_in)

    def _batch(self, *states: State) -> Batch:
        there = [it for it in self.batches() if not states or it.state in states]
        return self._chance.choice(some(there[-OF_LATE:]))

    # Who pays

    async def _draft(self, by: str) -> None:
        await self._paymaster().create(by)

    async def _approve(self, by: str) -> None:
        it = self._batch(State.DRAFT, State.APPROVED, State.PSBT, State.SIGNED, State.BROADCAST)
        await self._paymaster().approve(it.id, it.digest, self._chance.choice(FEE_CAPS_SAT), by)

    async def _export(self, by: str) -> None:
        await self._give(self._batch(State.APPROVED, State.PSBT, State.SIGNED, State.BROADCAST), by)

    async def _give(self, it: Batch, by: str) -> bytes:
        given = await self._paymaster().export(it.id, by)
        self._given.append((it.id, given.psbt))
        return given.psbt

    async def _import(self, by: str) -> None:
        number, psbt = self._chance.choice(some(self._given[-OF_LATE:]))
        signed = self._world.payouts.signer.sign(psbt, finalise=self._chance.random() < 0.7)
        await self._paymaster().receive(number, signed, by)

    async def _send(self, by: str) -> None:
        await self._paymaster().broadcast(self._batch(State.SIGNED, State.BROADCAST).id, by)

    async def _bump(self, by: str) -> None:
        it = self._batch(State.PSBT, State.SIGNED, State.BROADCAST)
        await self._paymaster().bump(it.id, by, self._chance.choice(FEE_RATES))

    async def _cancel(self, by: str) -> None:
        await self._paymaster().cancel(self._batch().id, by)

    async def _further(self, by: str) -> None:
        """What is usually next of the batch that is under way."""
        under_way = [it for it in self.batches() if it.state not in ENDED]
        if not under_way:
            await self._draft(by)
            return
        it = under_way[0]
        newest = it.attempts[-1].state if it.attempts else None
        if it.state is State.DRAFT:
            other = next(person for person in PERSONS if person != it.created_by)
            await self._paymaster().approve(it.id, it.digest, FEE_CAP_SAT, other)
        elif newest is None or newest is AttemptState.PSBT:
            await self._give(it, by)
        elif newest in (AttemptState.GIVEN, AttemptState.QUARANTINED):
            signed = self._world.payouts.signer.sign(await self._give(it, by))
            await self._paymaster().receive(it.id, signed, by)
        elif newest is AttemptState.SIGNED:
            await self._paymaster().broadcast(it.id, by)
        else:
            await self._find_blocks(by)
            await self._follow(by)

    async def _follow(self, _: str) -> None:
        await self._paymaster().follower.advance()

    async def _reconcile(self, by: str) -> None:
        await self._paymaster().reconciler.run(by, ())

    # The chain, and whoever has the keys

    async def _find_blocks(self, _: str) -> None:
        async with self._mining:
            await self._world.payouts.mine(self._chance.choice((1, 1, 3, 6)))

    async def _replace_blocks(self, _: str) -> None:
        async with self._mining:
            await self._world.payouts.reorganise(self._chance.choice((1, 2)))

    async def _send_elsewhere(self, _: str) -> None:
        psbt = self._chance.choice(some(self._given))[1]
        payouts = self._world.payouts
        await payouts.rpc.call(SEND, finalise(psbt, payouts.signer.sign(psbt)).hex(), 0)

    async def _spend_otherwise(self, _: str) -> None:
        """All payees in another order, all but one, or nobody but himself."""
        chance, signer = self._chance, self._world.payouts.signer
        it = chance.choice(some([it for it in self.batches() if it.attempts][-OF_LATE:]))
        anchor, payees = it.attempts[0].anchor, sorted(it.payees, key=lambda to: (to.amount_sat, to.script))
        payees = chance.choice((payees, payees[:-1], [], []))
        rest_sat = anchor.amount_sat - sum(to.amount_sat for to in payees) - OTHER_FEE_SAT
        if rest_sat < LEAST_CHANGE_SAT:
            raise Nothing
        change = TxOutput(rest_sat, signer.script(chance.randrange(1, 9), change=chance.random() < 0.6))
        try:
            await self._world.payouts.spend(anchor, change, *payees)
        except (AssertionError, KeyError):  # it is spent already
            raise Nothing from None

    async def _be_sent_change(self, _: str) -> None:
        """Anybody can pay to our change addresses."""
        payouts, chance = self._world.payouts, self._chance
        script = payouts.signer.script(chance.randrange(5), change=True)
        try:
            async with self._mining:
                await payouts.fund(TxOutput(chance.choice((600, 50_000)), script), deep=1)
        except (StopIteration, RuntimeError):  # of the coins of this chain none is old enough
            raise Nothing from None

    # The end

    async def rest(self) -> None:
        """All that is on its way arrives, and persons answer what they are asked. Raises Wrong."""
        questions: tuple[str, ...] = ()
        answers: list[str] = []
        for _ in range(ROUNDS_OF_REST):
            await self._world.payouts.mine(6)
            for by in PERSONS[:2]:
                try:
                    _, questions = await self._paymaster().reconciler.run(by, answers)
                except REFUSALS as refused:
                    questions = (str(refused),)
                for question in questions:
                    answers += TXID.findall(question)[:1]
            for it in self.batches():
                await self._end(it)
            if not questions and all(it.state in ENDED for it in self.batches()):
                return
        states = [(it.id, str(it.state)) for it in self.batches() if it.state not in ENDED]
        raise Wrong("payouts never come to rest", f"{states} {questions}")

    async def _end(self, it: Batch) -> None:
        paymaster = self._paymaster()
        try:
            if not _is_given(it) and it.state in (State.DRAFT, State.APPROVED, State.PSBT):
                await paymaster.cancel(it.id, PERSONS[0])
            elif it.state in (State.PSBT, State.SIGNED, State.BROADCAST):
                other = next(person for person in PERSONS if person != it.created_by)
                await paymaster.approve(it.id, it.digest, FEE_CAP_SAT, other)
                signed = self._world.payouts.signer.sign(await self._give(it, PERSONS[0]))
                await paymaster.receive(it.id, signed, PERSONS[0])
                await paymaster.broadcast(it.id, PERSONS[0])
        except REFUSALS as refused:
            self._world.note("the end of", it.id, f"is refused: {refused}")
