"""Where payout batches are settled without a chain: books, a wallet, its signer, and made-up coins."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, func, select

from payouts.audit.verify import audit
from payouts.batches.batch import Batch, State, load
from payouts.batches.plan import Plan, plan
from payouts.batches.psbt import Spend
from payouts.batches.rows import Act
from payouts.batches.schema import payout_batches, payout_events
from payouts.batches.steps import approve, attempt, confirm, draft, finish, give, send, sign
from payouts.batches.transaction import Tx, TxInput, TxOutput
from payouts.ledger import PoolAccount, balances_sat, in_payout, payable
from pool.books.store import Store
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import PayoutWallet, finalise
from tests.stages.payouts import ADDRESSES, NOW_S, PAID_SAT, Signer, private_descriptors, script_of

ANN, BOB, CHAIN_S = Act("ann", NOW_S), Act("bob", NOW_S), NOW_S + 600
TOTAL_SAT = sum(PAID_SAT.values())
CAP_SAT, FEE_SAT = 5_000, 1_000
BLOCK, OTHER_BLOCK = "aa" * 32, "bb" * 32
MINIMUM_SAT = 1_000


HELD = {
    "pool.pps_expense": -TOTAL_SAT,
    **{in_payout(number): sat for number, sat in enumerate(PAID_SAT.values(), 1)},
}
OWED = {
    "pool.pps_expense": -TOTAL_SAT,
    **{payable(number): sat for number, sat in enumerate(PAID_SAT.values(), 1)},
}


def paid(fee_sat: int = FEE_SAT) -> dict[str, int]:
    return {
        PoolAccount.PPS_EXPENSE.value: -TOTAL_SAT,
        PoolAccount.COINS.value: TOTAL_SAT + fee_sat,
        PoolAccount.NODE_FEES.value: -fee_sat,
    }


class Treasury:
    """Everything around the books: a wallet that makes PSBTs of coins out of thin air, and its signer."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.signer = Signer(*private_descriptors("wpkh", 0))
        receive, change = self.signer.public()
        settings = PayoutSettings(descriptor=receive, change_descriptor=change, addresses=ADDRESSES)
        self.wallet = PayoutWallet(settings, "regtest")
        self.source = Tx(
            2, (TxInput("11" * 32, 0, b"", 0),), (TxOutput(5_000_000, self.signer.script(0)),) * 3, 0
        )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self.store.write() as connection:
            yield connection

    def do(self, step: Callable[..., object], *args: object) -> object:
        """One step in one transaction."""
        with self.store.write() as connection:
            return step(connection, *args)

    def batch(self, batch_id: int = 1) -> Batch:
        with self.store.read() as connection:
            return load(connection, batch_id)

    def plan(self, now_s: int = NOW_S, minimum_sat: int = MINIMUM_SAT) -> Plan:
        with self.store.read() as connection:
            return plan(connection, now_s, script_of, minimum_sat)

    def coin(self, vout: int = 0) -> Spend:
        return Spend(self.source.txid, vout, 5_000_000, self.signer.script(0))

    def make(self, fee_sat: int = FEE_SAT, vout: int = 0) -> tuple[bytes, tuple[Spend, ...], TxOutput]:
        """A PSBT of the newest batch with its coins and change."""
        coin, payees = self.coin(vout), self.batch(self.newest()).payees
        change = TxOutput(
            coin.amount_sat - sum(it.amount_sat for it in payees) - fee_sat, self.wallet.change_script(1)
        )
        psbt = self.wallet.build([coin], {self.source.txid: self.source}, (*payees, change))
        return psbt, (coin,), change

    def newest(self) -> int:
        with self.store.read() as connection:
            return connection.scalar(select(func.max(payout_batches.c.id))) or 0

    def signed(self, psbt: bytes) -> bytes:
        return finalise(psbt, self.signer.sign(psbt))

    def bring_to(self, state: State) -> None:
        """A batch in that state, as everything goes well."""
        self.do(draft, self.plan(), ANN)
        if state is not State.DRAFT:
            self.bring_from_draft_to(state)
        assert self.batch().state is state

    def bring_from_draft_to(self, state: State) -> None:
        """The draft in that state, as everything goes well."""
        steps: tuple[tuple[State, Callable[[], object]], ...] = (
            (State.APPROVED, lambda: self.do(approve, 1, self.batch().digest, CAP_SAT, BOB)),
            (State.PSBT, lambda: self.do(attempt, 1, *self.make(), 100, ANN)),
            (State.SIGNED, self._sign),
            (State.BROADCAST, lambda: self.do(send, 1, 1, ANN)),
            (State.CONFIRMED, lambda: self.do(confirm, 1, 1, BLOCK, 101, CHAIN_S)),
            (State.FINAL, lambda: self.do(finish, 1, BLOCK, CHAIN_S)),
        )
        for reached, step in steps:
            step()
            if reached is state:
                break

    def _sign(self) -> None:
        psbt = self.do(give, 1, 1, ANN)
        assert isinstance(psbt, bytes)
        self.do(sign, 1, 1, self.signed(psbt), ANN)

    def balances(self) -> dict[str, int]:
        with self.store.read() as connection:
            assert audit(connection).wrong is None
            return {account: sat for account, sat in balances_sat(connection).items() if sat}

    def events(self) -> list[tuple[str, int | None, bool]]:
        with self.store.read() as connection:
            rows = connection.execute(select(payout_events).order_by(payout_events.c.position))
            return [(row.state, row.attempt, row.transaction_seq is not None) for row in rows]
