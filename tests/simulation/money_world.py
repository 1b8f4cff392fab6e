"""A world of money: what four tenants mine, what is sold of it, energy, blocks, and payouts on a chain.

Three persons do one thing after another beside each other, as a seed draws it, with the functions that a pool
and its commands use. Each of them may be killed before and after every commit and every call of the node.
Whoever has the keys signs what he is given, spends as he likes, and sends by a node of his own; blocks are
replaced; clocks step. Between two rounds the book may be copied, put back from a copy, or move to PostgreSQL.

`tests.simulation.money_auditor` judges it. What persons do is in `money_trade` and `money_payouts`.
"""

import itertools
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

import bdkpython as bdk
import msgspec
import trio
from sqlalchemy import Connection, make_url

import pool.cli.opened_books  # noqa: F401 whoever moves a book takes every table along
from payouts.batches.batch import BatchError
from payouts.batches.proposals import ProposalError
from payouts.batches.psbt import Quarantined
from payouts.batches.transaction import TxOutput
from payouts.energy.tariffs import BadTariff
from payouts.ledger import LedgerError
from payouts.rates import Price
from pool.books.book import bind
from pool.books.copies.backup import copy_online
from pool.books.copies.moving import move_book
from pool.books.copies.restores import note_restore
from pool.books.store import Store, open_store
from pool.chain.rpc import NodeError
from pool.cli.bookkeeping.database_copies import prove_moved
from pool.fleet.registry_error import RegistryError
from pool.treasury.coins import TooFewCoins
from tests.fixtures.databases import PostgresDatabases, SqliteDatabases
from tests.simulation.auditor import Found
from tests.simulation.course import Clock
from tests.simulation.dice import Dice, dice
from tests.stages.payouts import Faults, FaultyStore, Killed, Regtest, World

PERSONS: Final = ("ann", "bob", "cyd")
NETWORK: Final = "regtest"
HOUR_S, DAY_S = 3600, 86_400
BEGINS_S: Final = 1_700_000_000 // DAY_S * DAY_S + 20 * HOUR_S
ROUNDS: Final = 30
ACTS_A_ROUND: Final = 3  # of each person, at most
KILLS: Final = (0.0, 0.0, 0.01, 0.05)  # chance of each point, in a world
COIN_SAT, COINS = 30_000_000, 4
COPIED, PUT_BACK, MOVED = 0.1, 0.05, 0.1  # chance behind each round
ON_A_SERVER: Final = 0.3  # of worlds that have a server begin there
# What a person is told who asks for what cannot be.
REFUSALS: Final = (
    TooFewCoins,
    RegistryError,
    BatchError,
    LedgerError,
    ProposalError,
    Quarantined,
    NodeError,
    BadTariff,
)

_P = ParamSpec("_P")
_R = TypeVar("_R")
Act = Callable[[str], Awaitable[None] | None]
Acts = dict[str, tuple[int, Act]]  # how often, of all that is done


class Nothing(RegistryError):
    """There is nothing to do that with."""


class Wrong(Exception):
    """Something that must not be."""

    def __init__(self, verdict: str, words: object) -> None:
        super().__init__(verdict, words)
        self.found = Found(verdict, str(words))


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of a machine in a minute, as a journal has them."""

    tenant_id: int
    price: Price
    order_id: int | None
    rate_id: int
    minute: int
    difficulty_log2: int
    verdict: int
    shares: int
    undelivered: bool


class Mined(msgspec.Struct):
    """What journals gave, until when the books have all, and what was told: hashes of statements, by tenant
    and days since 1970, and of invoices."""

    batches: list[tuple[Line, ...]] = []
    until_s: int = 0
    statements: dict[tuple[str, int, int], str] = {}
    invoices: dict[int, str] = {}


def _copied(it: Mined) -> Mined:
    return Mined(list(it.batches), it.until_s, dict(it.statements), dict(it.invoices))


class Copy(msgspec.Struct, frozen=True):
    """A book as it was: its file or its database, and what was mined by then."""

    name: str
    mined: Mined


class ByChance(Faults):
    """A person's command is killed at a point, as the seed draws it."""

    def __init__(self, chance: Dice) -> None:
        super().__init__()
        self.armed = 0.0
        self._chance = chance

    def point(self, name: str) -> None:
        if self._chance.random() < self.armed:
            self.struck += 1
            raise Killed(name)


class Book:
    """Where the book is: in a file, or a database of a server. Each store that was open is closed by what
    opens another one."""

    def __init__(self, home: Path, postgres: PostgresDatabases | None, *, on_server: bool) -> None:
        self.postgres, self.on_server = postgres, on_server
        self._stack, self._file, self._copies = ExitStack(), home / "book.db", itertools.count(1)
        if on_server:
            assert postgres is not None
            self._url = self._stack.enter_context(postgres.fresh_url())
        else:
            self._url = SqliteDatabases(home).kept_url("book")
        self.store = open_store(self._url)

    def copy(self) -> str:
        """A name of it as it is. On a server the copy is gone on with."""
        if not self.on_server:
            copy = self._file.with_name(f"copy-{next(self._copies)}.db")
            copy_online(self._file, copy, rest=lambda _: None)
            return str(copy)
        name = str(make_url(self._url).database)
        self.put_back(name)
        return name

    def put_back(self, name: str) -> None:
        """It is as that copy again."""
        self.store.close()
        if self.on_server:
            assert self.postgres is not None
            self._url = self._stack.enter_context(self.postgres.fresh_url(like=name))
        else:
            for it in self._file.parent.glob(f"{self._file.name}*"):
                it.unlink()
            shutil.copy(name, self._file)
        self.store = open_store(self._url)

    def move(self, *, upgraded: bool) -> None:
        """From its file to the server."""
        assert self.postgres is not None
        self.store.close()
        self._url = self._stack.enter_context(self.postgres.fresh_url(upgraded=upgraded))
        move_book(self._file, self._url, "ann", prove_moved)
        self.on_server = True
        self.store = open_store(self._url)

    def close(self) -> None:
        self.store.close()
        self._stack.close()


class Judge(Protocol):
    """Asked behind each round, and when all is at rest."""

    def look(self) -> None: ...
    def at_rest(self) -> None: ...
    def settled(self) -> None: ...


class MoneyWorld:
    """`course` is what was done, in words, `done` how often; `addresses` are all that tenants ever had."""

    def __init__(self, seed: int, home: Path, clock: Clock, postgres: PostgresDatabases | None) -> None:
        self._clock = clock
        self.seed, self.home, self.chance = seed, home, dice(seed, "money")
        self.now_s = BEGINS_S + self.chance.randrange(5 * HOUR_S)
        self.course: list[str] = []
        self.done: Counter[str] = Counter()
        self.mined = Mined()
        self.addresses: set[str] = set()
        self.was_put_back = False
        self.faults = ByChance(dice(seed, "kills"))
        self.regtest = Regtest(home)
        on_server = postgres is not None and self.chance.random() < ON_A_SERVER
        self.book = Book(home, postgres, on_server=on_server)
        bind(self.book.store, NETWORK)
        self.payouts = World(self.regtest, self.book.store, faults=self.faults)
        self._copies: list[Copy] = []

    @property
    def store(self) -> Store:
        """As a person has it who may be killed."""
        return FaultyStore(self.book.store, self.faults)

    def write(self, work: Callable[Concatenate[Connection, _P], _R], *of: _P.args, **more: _P.kwargs) -> _R:
        with self.store.write() as connection:
            return work(connection, *of, **more)

    def read(self, work: Callable[Concatenate[Connection, _P], _R], *of: _P.args, **more: _P.kwargs) -> _R:
        with self.book.store.read() as connection:
            return work(connection, *of, **more)

    def note(self, *words: object) -> None:
        self.course.append(f"{self.now_s} {' '.join(map(str, words))}")

    def address(self, name: object) -> str:
        """One that nobody else has, by a name."""
        script = b"\x00\x14" + sha256(f"{self.seed} {name}".encode()).digest()[:20]
        return str(bdk.Address.from_script(bdk.Script(script), bdk.Network.REGTEST))

    @contextmanager
    def nobody_is_killed(self) -> Iterator[None]:
        armed, self.faults.armed = self.faults.armed, 0.0
        try:
            yield
        finally:
            self.faults.armed = armed

    async def live(self, acts: Acts, judge: Judge, rest: Callable[[], Awaitable[None]]) -> None:
        coins = [TxOutput(COIN_SAT, self.payouts.signer.script(index)) for index in range(COINS)]
        await self.payouts.fund(*coins, deep=8)
        try:
            self.faults.armed = self.chance.choice(KILLS)
            for _ in range(ROUNDS):
                async with trio.open_nursery() as nursery:
                    for by in PERSONS[: self.chance.randint(1, len(PERSONS))]:
                        nursery.start_soon(self._work, by, acts)
                with self.nobody_is_killed():
                    judge.look()
                    self._between()
            with self.nobody_is_killed():
                judge.settled()
                await rest()
                judge.at_rest()
        finally:
            await self.payouts.aclose()
            self.book.close()
            self.regtest.close()

    async def _work(self, by: str, acts: Acts) -> None:
        weights = [often for often, _ in acts.values()]
        for _ in range(self.chance.randint(1, ACTS_A_ROUND)):
            (name,) = self.chance.choices(list(acts), weights)
            self.note(by, name)
            if not await self._do(by, name, acts[name][1]):
                return

    async def _do(self, by: str, name: str, act: Act) -> bool:
        """Whether the person lives."""
        try:
            doing = act(by)
            if doing is not None:
                await doing
        except REFUSALS as refused:
            self._refused(by, name, refused)
        except Killed as killed:
            return self._killed(by, name, killed)
        except BaseExceptionGroup as group:
            ends, others = group.split(lambda it: isinstance(it, (Killed, *REFUSALS)))
            if others is not None:
                raise
            kills = group.subgroup(Killed)
            if kills is not None:
                return self._killed(by, name, kills)
            assert ends is not None
            self._refused(by, name, ends)
        else:
            self.done[name] += 1
        return True

    def _refused(self, by: str, name: str, why: BaseException) -> None:
        self.done[f"{name}, refused"] += 1
        self.note(by, name, f"is refused: {type(why).__name__}")

    def _killed(self, by: str, name: str, at: BaseException) -> bool:
        self.done["killed"] += 1
        self.note(by, name, f"is killed: {at}" if isinstance(at, Killed) else "is killed")
        return False

    def _between(self) -> None:
        """Nobody is at the book."""
        chance, book = self.chance, self.book
        if chance.random() < COPIED:
            self._copies.append(Copy(book.copy(), _copied(self.mined)))
            self.note("the book is copied")
        if self._copies and chance.random() < PUT_BACK:
            self._put_back(chance.choice(self._copies[-2:]))
        if book.postgres is not None and not book.on_server and chance.random() < MOVED:
            self._clock.ahead_s = self.now_s - self._clock.true_s()  # what moves it looks at the host's clock
            book.move(upgraded=chance.random() < 0.5)
            self._copies.clear()
            self.done["moved"] += 1
            self.note("the book is on a server")
        self.payouts.store = book.store

    def _put_back(self, it: Copy) -> None:
        """What was mined since is in no journal any more."""
        self.book.put_back(it.name)
        self.mined = _copied(it.mined)
        self.was_put_back = True
        with self.book.store.write() as connection:
            note_restore(connection, "ann", {}, self.now_s)
        self.done["put back"] += 1
        self.note("the book is put back")
