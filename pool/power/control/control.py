"""All machines that the books know, told by whoever reaches each: this process, or the edge at its site.

Where a machine is, and with what password, is looked up here: what the operator said (`addresses_of`) counts
before where it mines from (`peers`). A machine that is off mines from nowhere: so everybody who may hold it
off is told to hold it on, or to resume it, and knows where that was. A batch is begun, and its answers are
asked for, so that no question takes as long as machines do.

Invariants: nothing raises that a site does, or a line to it: machines of a site that is away were not
reached, or nobody knows what became of them. Must not know: how machines are spoken to, and why.
"""

import math
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Final

import msgspec
import structlog
import trio

from pool.books.database_waits import when_it_answers
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.link import LinkClosed
from pool.power.control.contract import (
    ASKED_MAX,
    Action,
    Answer,
    Answered,
    Asked,
    Firmware,
    MachineName,
    in_words,
)
from pool.power.control.held import HELD_MAX, Standing
from pool.power.control.network import AT_ONCE, MACHINE_S, Order, Reached
from pool.power.control.passwords import EVERYWHERE, Sealed, container_scope
from pool.power.control.peers import Peer, Peers, mined_from, peers_by_name
from pool.power.control.rows import MachineAddress, addresses_of, sealed_credentials, site_of_containers
from pool.power.control.runner import HeldView, Machines
from pool.power.control.whereabouts import Whereabouts
from pool.questions import AnsweredWithError

log = structlog.get_logger()

BOOKS_S: Final = 20.0  # books that are away longer know no machine now
POLL_S: Final = 1.0
LOST_S: Final = 60.0  # a line may be cut for a moment while machines are told
PEERS_S: Final = 60.0  # machines get other addresses once a day, where they do; a look is 50 ms at a site
AWAY: Final = (LinkClosed, AnsweredWithError)
TO_HOLDERS: Final = (Action.HOLD, Action.RESUME)
# Of several who may hold a machine off one does: what he says counts, and before that who may be he.
_COUNTS: Final = (
    Answer.SAID_YES,
    Answer.DRY_RUN,
    Answer.UNKNOWN,
    Answer.REFUSED,
    Answer.UNSUPPORTED,
    Answer.UNREACHED,
)


class Reach(msgspec.Struct, frozen=True):
    """Whoever reaches some machines. `peers` and `machines` raise what AWAY are."""

    name: str
    has: Callable[[str, str], bool]  # a tenant's container
    peers: Callable[[], Awaitable[tuple[Peers, ...]]]
    machines: Machines


class _Mine(msgspec.Struct, frozen=True):
    """Where a site's machines mine from, as of then; and from where all shares lately came."""

    at_s: float = -PEERS_S
    peers: dict[MachineName, Peer] = {}
    mined_from: dict[MachineName, frozenset[str]] = {}


class _Looked(msgspec.Struct, frozen=True):
    addresses: dict[MachineName, MachineAddress]
    credentials: dict[tuple[Firmware, str], Sealed]
    sites: dict[tuple[str, str], str]


class Control:
    """pool.power.control.contract.MachineControl. `reaches` are all there are now; with `dry_run` other sites
    are told nothing."""

    def __init__(
        self, store: Store, reaches: Callable[[], Sequence[Reach]], *, dry_run: bool, enabled: bool = True
    ) -> None:
        self._store, self._reaches, self._dry_run, self._enabled = store, reaches, dry_run, enabled
        self._peers: dict[str, _Mine] = {}
        self.whereabouts = Whereabouts()

    async def control(self, asked: tuple[Asked, ...], *, within_s: float = math.inf) -> tuple[Answered, ...]:
        """As MachineControl has it. Of whoever has not answered `within_s` nobody knows what was done."""
        assert len(asked) <= ASKED_MAX
        assert len({it.machine for it in asked}) == len(asked)
        if not self._enabled:
            return tuple(_unreached(it, "there is no [power] in the settings") for it in asked)
        names = [it.machine for it in asked]
        try:
            looked: _Looked = await when_it_answers(
                "look up machines", self._looked, names, wait_s=lambda: BOOKS_S
            )
        except DATABASE_ERRORS as error:
            return tuple(_unreached(it, f"the books do not answer: {words_of(error):.100}") for it in asked)
        answers: dict[MachineName, Answered] = {}
        orders = await self._orders(asked, looked, answers)
        async with trio.open_nursery() as nursery:
            for reach, its in orders:
                nursery.start_soon(self._told, reach, its, answers, within_s)
        return tuple(answers[it.machine] for it in asked)

    def _looked(self, names: Sequence[MachineName]) -> _Looked:
        with self._store.read() as connection:
            return _Looked(
                addresses_of(connection, names),
                sealed_credentials(connection),
                site_of_containers(connection, {(it.tenant, it.container) for it in names}),
            )

    async def look_around(self, names: Set[MachineName]) -> None:
        """From where shares come under these names, of machines that were told to pause: the others are
        looked for no more."""
        self.whereabouts.keep(names)
        wanted = {(it.tenant, it.container) for it in self.whereabouts.names}
        reaches = [it for it in self._reaches() if any(it.has(*place) for place in wanted)]
        now_s, told, away = trio.current_time(), list[Peers](), list[Reach]()
        for it in reaches:
            try:
                told += await it.peers()
            except AWAY as error:
                log.warning("machines_not_asked", site=it.name, reason=str(error)[:200])
                away.append(it)

        def heard(tenant: str, container: str) -> bool:
            return not any(it.has(tenant, container) for it in away)

        await trio.to_thread.run_sync(self.whereabouts.saw, told, heard, now_s)

    async def held(self) -> tuple[HeldView, ...]:
        """All that are held off, or being resumed, as far as who holds them answers."""
        found: list[HeldView] = []
        for reach in self._reaches():
            its: list[HeldView] = []
            try:
                while len(its) < HELD_MAX and (some := await reach.machines.held(len(its))):
                    its.extend(some)
                found.extend(its)
            except AWAY as error:
                log.warning("machines_not_asked", site=reach.name, reason=str(error)[:200])
        return tuple(found)

    async def standing(self) -> dict[str, Standing | None]:
        """How many those have who hold them; None of whoever is away."""
        found: dict[str, Standing | None] = {}
        for reach in self._reaches():
            try:
                said = await reach.machines.standing()
            except AWAY:
                found[reach.name] = None
            else:  # of others' machines nobody is believed
                its = [it for it in said.given_up if reach.has(it.tenant, it.container)]
                found[reach.name] = msgspec.structs.replace(said, given_up=tuple(its))
        return found

    async def forget(self, machine: MachineName) -> bool:
        """It is gone for good: whether all who may hold it tell it no more. One that is away still may."""
        everybody = True
        for it in self._reaches():
            if it.has(machine.tenant, machine.container):
                try:
                    await it.machines.forget(machine)
                except AWAY as error:
                    log.warning(
                        "machine_not_forgotten", site=it.name, machine=str(machine), reason=str(error)[:200]
                    )
                    everybody = False
        return everybody

    async def _orders(
        self, asked: Sequence[Asked], looked: _Looked, answers: dict[MachineName, Answered]
    ) -> list[tuple[Reach, list[Order]]]:
        """By whoever reaches them; who is reached by nobody has its answer."""
        reaches = list(self._reaches())
        mine = {it.name: await self._peers_of(it, asked) for it in reaches}
        peers = {name: it.peers for name, it in mine.items()}
        orders: dict[str, list[Order]] = {}
        for it in asked:
            name = it.machine
            if it.action is Action.PAUSE:
                addresses = (of.mined_from.get(name, frozenset()) for of in mine.values())
                self.whereabouts.paused(name, frozenset().union(*addresses))
            ways = [reach for reach in reaches if reach.has(name.tenant, name.container)]
            way = next((reach for reach in ways if name in peers[reach.name]), ways[0] if ways else None)
            if way is None:
                answers[name] = _unreached(it, "nobody reaches this machine")
                continue
            reached = _reached(name, looked, peers[way.name].get(name))
            to: dict[str, Reached] = {}
            if it.action in TO_HOLDERS:
                nowhere = Reached(machine=name, address="", firmware=Firmware.OTHER, by_hand=False)
                to = {reach.name: nowhere for reach in ways}
            if reached is not None:
                to[way.name] = reached
            if not to:
                answers[name] = _unreached(it, "it has no address that is its alone")
            for site, where in to.items():
                order = Order(
                    reached=where,
                    action=it.action,
                    until_s=it.until_s,
                    percent=it.percent,
                    before_hps=it.before_hps,
                )
                orders.setdefault(site, []).append(order)
        return [(it, orders[it.name]) for it in reaches if it.name in orders]

    async def _peers_of(self, reach: Reach, asked: Sequence[Asked]) -> _Mine:
        """Nothing from one that is away, and none that it does not have."""
        if not any(reach.has(it.machine.tenant, it.machine.container) for it in asked):
            return _Mine()
        known = self._peers.get(reach.name, _Mine())
        if trio.current_time() - known.at_s < PEERS_S:
            return known
        try:
            told = await reach.peers()
        except AWAY as error:
            log.warning("machines_not_asked", site=reach.name, reason=str(error)[:200])
            return _Mine()
        found = await trio.to_thread.run_sync(_mine, told, reach.has, trio.current_time())
        self._peers[reach.name] = found
        return found

    async def _told(
        self, reach: Reach, orders: list[Order], answers: dict[MachineName, Answered], within_s: float
    ) -> None:
        if self._dry_run and reach.name:
            for order in orders:
                words = f"{order.action.value} at {order.reached.address or 'no address'}: nothing was sent"
                _take(answers, _answer(order, Answer.DRY_RUN, words))
            return
        try:
            batch = await reach.machines.begin(tuple(orders))
        except AWAY as error:
            for order in orders:
                _take(answers, _answer(order, Answer.UNKNOWN, f"{reach.name}: {error}"))
            return
        said: dict[MachineName, Answered] = {}
        await self._answered(reach, batch, orders, said, within_s)
        for order in orders:
            lost = _answer(order, Answer.UNKNOWN, f"{reach.name or 'it'} has not answered yet")
            _take(answers, said.get(order.reached.machine, lost))

    async def _answered(
        self,
        reach: Reach,
        batch: int,
        orders: list[Order],
        answers: dict[MachineName, Answered],
        within_s: float,
    ) -> None:
        """Until the batch is over, or nothing has been heard for too long. Believed is nothing of others."""
        mine = {it.reached.machine for it in orders}
        taken, heard_s = 0, trio.current_time()
        with trio.move_on_after(min(within_s, MACHINE_S * (2 + len(orders) / AT_ONCE))):
            while trio.current_time() - heard_s < LOST_S:
                try:
                    said = await reach.machines.answers(batch, taken)
                except LinkClosed:
                    await trio.sleep(POLL_S)
                    continue
                except AnsweredWithError as error:
                    log.warning("machines_not_answered_for", site=reach.name, reason=str(error)[:200])
                    return
                heard_s = trio.current_time()
                taken += len(said.answered)
                for it in said.answered[: len(orders)]:
                    if it.machine in mine:
                        answers[it.machine] = it
                if said.over:
                    return
                await trio.sleep(POLL_S)


def _mine(told: Sequence[Peers], has: Callable[[str, str], bool], now_s: float) -> _Mine:
    return _Mine(
        now_s,
        {it: peer for it, peer in peers_by_name(told).items() if has(it.tenant, it.container)},
        {it: addresses for it, addresses in mined_from(told).items() if has(it.tenant, it.container)},
    )


def _reached(name: MachineName, looked: _Looked, peer: Peer | None) -> Reached | None:
    said = looked.addresses.get(name)
    by_hand = said is not None and said.address is not None
    address = said.address if said is not None and said.address is not None else None
    firmware = None if said is None else said.firmware
    if peer is not None:
        address = address or peer.address
        firmware = firmware or peer.firmware
    if address is None:
        return None
    firmware = firmware or Firmware.OTHER
    place = (name.tenant, name.container)
    scopes = [container_scope(*place)]
    if by_hand:  # who stands in a machine's place could have others of the same password told by its proof
        scopes += [f"site:{looked.sites[place]}"] if place in looked.sites else []
        scopes.append(EVERYWHERE)
    sealed = (looked.credentials.get((firmware, scope)) for scope in scopes)
    return Reached(
        machine=name,
        address=address,
        port=said.port if said is not None and by_hand else None,
        firmware=firmware,
        by_hand=by_hand,
        firmware_by_hand=said is not None and said.firmware is not None,
        sealed=next((it for it in sealed if it is not None), None),
    )


def _take(answers: dict[MachineName, Answered], it: Answered) -> None:
    """The one that counts, of all who answer for a machine. Its words go into the books."""
    before = answers.get(it.machine)
    if before is None or _COUNTS.index(it.answer) < _COUNTS.index(before.answer):
        answers[it.machine] = msgspec.structs.replace(it, words=in_words(it.words))


def _unreached(it: Asked, words: str) -> Answered:
    return Answered(machine=it.machine, answer=Answer.UNREACHED, words=words)


def _answer(order: Order, answer: Answer, words: str) -> Answered:
    return Answered(machine=order.reached.machine, answer=answer, words=words)
