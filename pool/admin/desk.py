"""Where the operator's commands are executed: the books, and what a running pool adds to them.

What only a running pool has is imported for its types alone: half a second, for who asks without one.

Invariants: only a desk with an operator at it writes, and what it writes leaves a row in `changes` with that
name, and from where it was, in the same transaction. Must not know: which commands there are.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from payouts.proof.key import ProofKey
from pool.books.changes.changes import State, note_change
from pool.books.changes.keys import ChangeKey, KeyedChange, keyed_change, note_key
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Caller
from pool.power.curtailment.durations import USUAL, Durations
from pool.requests.policy import Approval

if TYPE_CHECKING:
    from pool.admin.live_settings import Reload
    from pool.books.edges.remote_edge import Standing
    from pool.edges.edges import SiteProcess
    from pool.fleet.hashrate import Hashrate
    from pool.fleet.registry import ContainerRecord, UnlistedWorker
    from pool.fleet.rows import TenantView
    from pool.messages.outbox import Answer
    from pool.messages.teller import Raised
    from pool.orders.status import OrderStatus
    from pool.power.control.contract import Answered, Asked, MachineName
    from pool.power.control.runner import HeldView
    from pool.power.curtailment.course import Looks
    from pool.power.energy.by_machine import MachineDrawn
    from pool.power.energy.live import PowerNow
    from pool.power.energy.suspects import Suspect
    from pool.power.signals.intake import Source
    from pool.routing.drain import DrainStatus
    from pool.treasury.books import PayoutBooks
    from pool.treasury.paymaster import Paymaster
    from pool.upstreams.status import UpstreamStatus
    from stratum.miners.firmware import Firmware
    from stratum.miners.traces.traces import TraceView

ROWS_MAX: Final = 1_000  # workers in one answer; the next page starts after the last name
DAY_S: Final = 86_400
_Value = TypeVar("_Value")


class LivePool(Protocol):
    """What a running pool adds to commands, which are in a worker thread: each of these hops to its own."""

    def figures(self, of: Literal["tenant", "site", "container", "worker"]) -> Mapping[int, Hashrate]:
        """Live figures by number."""

    def worker_figures(self, numbers: Collection[int]) -> Mapping[int, Hashrate]:
        """Live figures of these workers, by number."""

    def unlisted(self, after: int, tenant_id: int | None, container: str | None) -> list[UnlistedWorker]:
        """The first ROWS_MAX machines without a row, by number above `after`."""

    def find_unlisted(self, tenant: str, container: str, unit: str) -> UnlistedWorker | None:
        """The machine of that name, if it has no row."""

    @property
    def since_s(self) -> int:
        """When the pool was started."""

    def start_trace(self, name: str | None, address: str | None, seconds: int) -> int:
        """Its number. Raises TooManyTraces."""

    def trace(self, number: int, after: int) -> TraceView | None:
        """Its lines with numbers above `after`; None when it is over."""

    def uncharged(self, name: str | None, tenant_id: int | None, since_day: int) -> list[int]:
        """What a machine sent, or all of a tenant, that is in no tally: as
        stratum.miners.uncharged.Uncharged.of counts."""

    def firmware(self) -> list[Firmware]:
        """What each firmware was seen to do: copies."""

    def reserve_container(self, tenant: str, name: str) -> int:
        """A number for a new container."""

    def container_changed(self, record: ContainerRecord) -> None:
        """A container is new."""

    def workers_removed(self, numbers: Collection[int]) -> None:
        """These machines are gone."""

    def tenant_changed(self, view: TenantView) -> None:
        """A tenant is new, or has another status or other terms."""

    def routes_changed(self) -> None:
        """An upstream or an order is new, another one, or over: to be read anew."""

    def edges_changed(self) -> None:
        """An edge at another site is new, another one, or retired."""

    def edge_standing(self) -> Sequence[Standing]:
        """How those stand that have a journal."""

    def tokens_changed(self) -> None:
        """A token is new, or revoked."""

    def drain(self, over_s: int, edge: SiteProcess | None) -> DrainStatus:
        """Let nobody in, and everybody go within so many seconds; or so at one edge."""

    def end_drain(self, edge: str | None) -> DrainStatus:
        """Let miners in again."""

    def drain_status(self, edge: str | None) -> DrainStatus:
        """How far it is."""

    def reloading(self) -> AbstractContextManager[Reload]:
        """The settings file read anew, until that is taken, or not. Raises BadConfig, and RegistryError."""

    def apply(self, reload: Reload) -> None:
        """Have that in force."""

    def signals(self) -> Sequence[Source]:
        """Who may ask for curtailment beside persons."""

    def raised_messages(self) -> Sequence[Raised]:
        """What is wrong."""

    def test_messages(self) -> Sequence[Answer]:
        """A message to everybody who is told, and what each answered."""

    def upstream_status(self) -> Sequence[UpstreamStatus]:
        """Every channel on an upstream."""

    def order_status(self) -> Sequence[OrderStatus]:
        """Every order that is delivered."""

    def power(self) -> PowerNow:
        """What is drawn now."""

    def machines_drawn(self, names: Collection[MachineName]) -> Mapping[MachineName, MachineDrawn]:
        """What each of these machines draws now; without those that nobody knows here."""

    def ask_machines(self, asked: tuple[Asked, ...], within_s: float) -> tuple[Answered, ...]:
        """Tell these something on their own network, and what each answered until then."""

    def held_machines(self) -> Sequence[HeldView]:
        """Machines that are held off, or are being resumed."""

    def forget_machine(self, machine: MachineName) -> bool:
        """It is gone for good: whether all who may hold it off know that now."""

    def power_suspects(self) -> Sequence[tuple[Suspect, str]]:
        """Who draws for nothing, or unpaid; with the name of a machine, empty of what is none."""

    def power_changed(self) -> None:
        """Nameplates, meters or limits are others: to be read anew."""

    def machine_looks(self) -> Looks | None:
        """What is seen of machines' shares now; None where nobody looks."""

    def orders_without(self, machines: frozenset[int]) -> Mapping[str, float]:
        """What orders would be short by without these machines, by name."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a running pool adds to a row; nothing where none runs, or where nothing was counted. Rates are
    averages over so many seconds, of hashes a second; counts are since `counted_since_at_s`."""

    accepted: int | UnsetType = UNSET
    stale: int | UnsetType = UNSET
    duplicate: int | UnsetType = UNSET
    low: int | UnsetType = UNSET
    invalid: int | UnsetType = UNSET
    undelivered: int | UnsetType = UNSET
    workers: int | UnsetType = UNSET
    offline: int | UnsetType = UNSET
    hps_60s: float | UnsetType = UNSET
    hps_300s: float | UnsetType = UNSET
    hps_3600s: float | UnsetType = UNSET
    hps_86400s: float | UnsetType = UNSET
    counted_since_at_s: int | UnsetType = UNSET


class PayingOut(Protocol):
    """What paying out takes besides the books, as pool.treasury.treasury.Treasury has it. All of it blocks,
    and may raise BadWallet."""

    @property
    def minimum_sat(self) -> int:
        """No tenant is paid less."""

    def script_of(self, address: str) -> bytes:
        """Of an address of a tenant. Raises ValueError."""

    def deposit_address(self, position: int) -> tuple[str, bytes]:
        """Where the buyer of an order pays, by a number, and its script."""

    def lend(self, books: PayoutBooks, job: Callable[[Paymaster], Awaitable[_Value]]) -> _Value:
        """What a paymaster on the books does."""


class Desk(msgspec.Struct, frozen=True):
    """Where questions are answered. `live` is None when no pool runs, `paying` where settings have no
    payouts, or there are none. `durations`: of events of power, by the settings."""

    store: Store
    network: str | None  # None: the book was never started, and no settings say
    live: LivePool | None = None
    paying: PayingOut | None = None
    policy: Approval = Approval()
    durations: Durations = USUAL
    proof: ProofKey | None = None  # what statements are signed with, where they are

    def read(self, work: Callable[[Connection], _Value]) -> _Value:
        with self.store.read() as connection:
            return work(connection)


class GivenBefore(Exception):
    """A change was asked for again, under its key, and is not made again."""

    def __init__(self, before: KeyedChange) -> None:
        super().__init__("this was done before")
        self.before = before


def _nothing_else(*_: object) -> None:
    pass


class OperatorDesk(Desk, frozen=True, kw_only=True):
    """A desk with somebody at it who changes something; `state` is what the books say of the subject.
    `key`: what he asks for it under, if under one; `noted`: the numbers of the changes made so far.

    In the transaction of a change `admit` is called before it, with what was, and may refuse it; `beside`
    after it."""

    caller: Caller
    command: str
    subject: str
    state: Callable[[Connection, str], State]
    key: ChangeKey | None = None
    noted: list[int] = msgspec.field(default_factory=list)
    admit: Callable[[Connection, State], None] = _nothing_else
    beside: Callable[[Connection], None] = _nothing_else

    @property
    def by(self) -> str:
        return self.caller.name

    def note(self, was: State, became: State) -> None:
        """Write down a change of what is not in the books: how the pool runs."""
        with self.store.write() as connection:
            self._demand_first(connection)
            self._note(connection, was, became)

    def _demand_first(self, connection: Connection) -> None:
        """Raises GivenBefore. Whoever writes is the only one, so nobody comes between this and the change."""
        if self.key is not None and not self.noted:
            before = keyed_change(connection, self.key, wall_s())
            if before is not None:
                raise GivenBefore(before)

    def _note(self, connection: Connection, was: State, became: State) -> None:
        now_s = wall_s()
        number = note_change(
            connection,
            by=self.by,
            source=self.caller.source,
            command=self.command,
            subject=self.subject,
            was=was,
            became=became,
            now_s=now_s,
        )
        if self.key is not None and not self.noted:
            note_key(connection, self.key, number, now_s)
        self.noted.append(number)

    def write(self, work: Callable[[Connection], _Value]) -> _Value:
        """Do it, and write down who did."""
        with self.writing() as connection:
            return work(connection)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction for what is done, which ends with writing down who did."""
        with self.store.write() as connection:
            self._demand_first(connection)
            was = self.state(connection, self.subject)
            self.admit(connection, was)
            yield connection
            self._note(connection, was, self.state(connection, self.subject))
            self.beside(connection)

    def write_each(
        self, plan: Callable[[Connection], Mapping[str, Callable[[Connection], _Value]]]
    ) -> list[_Value]:
        """Several changes by their subjects: all of them or none, and a row for each."""
        with self.store.write() as connection:
            self._demand_first(connection)
            done = []
            for subject, work in plan(connection).items():
                was = self.state(connection, subject)
                done.append(work(connection))
                one = msgspec.structs.replace(self, subject=subject)
                one._note(connection, was, self.state(connection, subject))
            return done


def running(desk: Desk) -> LivePool:
    """The pool, for what only one that runs can do."""
    if desk.live is None:
        raise RegistryError("no pool runs here")
    return desk.live


def network_of(desk: Desk) -> str:
    if desk.network is None:
        raise RegistryError(
            "the database is of no network yet, and an address belongs to one: give the settings with"
            " --config, or start the pool once"
        )
    return desk.network


def live_figures(desk: Desk, of: Literal["tenant", "site", "container", "worker"]) -> Mapping[int, Hashrate]:
    return desk.live.figures(of) if desk.live is not None else {}


def figures_of(desk: Desk, rate: Hashrate | None) -> dict[str, Any]:
    """Figures' fields; nothing without a running pool."""
    if rate is None or desk.live is None:
        return {}
    from pool.fleet.hashrate import WINDOWS_S

    figures: dict[str, Any] = msgspec.to_builtins(rate)
    rates = figures.pop("rates_hps")
    figures.update({f"hps_{window_s}s": rate for window_s, rate in zip(WINDOWS_S, rates, strict=True)})
    return figures | {"counted_since_at_s": desk.live.since_s}


def named(it: Any) -> str:
    """What a command is about that has one name for it."""
    return str(it.name)


def wall_s() -> int:
    return int(time.time())


def routes_changed(desk: Desk) -> None:
    if desk.live is not None:
        desk.live.routes_changed()


def valid(make: Callable[[], _Value]) -> _Value:
    """What was asked for, or the reason why it cannot be, in words."""
    try:
        return make()
    except ValueError as error:  # BadUpstream is one
        raise RegistryError(str(error)) from None
