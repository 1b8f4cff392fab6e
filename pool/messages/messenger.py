"""Messages of one pool: a look a minute, and what is worth telling goes to whoever is to know.

The pool's own loop gives the figures of this moment, which takes milliseconds; books, disk, certificates and
everything that is made of them have a worker thread. Nothing here ends the pool.

Must not know: what runs when else.
"""

import shutil
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import structlog
import trio
from sqlalchemy import Connection

from pool.books.edges.watch import NO_HUB, HubFigures
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.fleet.hashrate import HashrateBook, Unheard, everybody_is_heard
from pool.fleet.registry import Registry
from pool.messages.booked import Booked, booked, cursors_now, last_shares
from pool.messages.conditions import DIED_LOOKS, LOOK_S, conditions
from pool.messages.curtailment_conditions import curtailment_conditions
from pool.messages.edge_conditions import edge_conditions
from pool.messages.kinds import KINDS
from pool.messages.lasting_conditions import lasting_conditions
from pool.messages.look import (
    CertificateLook,
    ContainerLook,
    LastingLook,
    Look,
    NodeLook,
    OrderLook,
    SignalLook,
    UpstreamLook,
)
from pool.messages.machines import Bools, Floats, Gone, Ints, Machines
from pool.messages.memory import MemoryFile, Remembered
from pool.messages.message import WORDS_CHARS_MAX, Happened, Message, Severity, plain
from pool.messages.outbox import Answer, Outbox, Receiver
from pool.messages.power_conditions import power_conditions
from pool.messages.power_looks import limited, metered
from pool.messages.receiver import Sender
from pool.messages.settings import MessageSettings, ReceiverSettings
from pool.messages.signal_conditions import signal_conditions
from pool.messages.teller import HOUR_S, Event, Raised, Teller
from pool.messages.webhook import Webhook
from pool.orders.status import OrderStatus
from pool.power.curtailment.status import NO_EVENTS, PowerStatus
from pool.power.energy.live import PowerNow
from pool.power.signals.intake import Source
from pool.reports.figures import grouped
from pool.settings_file import BadConfig
from pool.upstreams.status import UpstreamStatus
from stratum.miners.listening.certificate import BadCertificate, valid_until_s
from stratum.miners.listening.listeners import Endpoint

log = structlog.get_logger()

LAST_WORDS_S: Final = 10.0  # of a pool whose journal failed: it serves nobody any more
NAMES_MAX: Final = 10  # of machines that did not come back, of one container


class MachineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """An entry for each worker."""

    workers: Ints
    containers: Ints
    ages_s: Floats  # since its last good share; infinite for none since the start
    hashrates_hps: Floats  # of five minutes
    rejected_hps: Floats  # likewise
    unheard: Bools | None = None  # who is not known to be offline; None: nobody


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool's own loop knows at one moment."""

    running_s: float
    job_age_s: float
    machines: MachineFigures
    nodes: tuple[NodeLook, ...]
    upstreams: tuple[UpstreamStatus, ...]
    orders: tuple[OrderStatus, ...]
    guesses: int = 0  # wrong tokens that were shown since the start
    unbooked_s: float = 0.0  # since the oldest share came that waits in the journal for the books
    processes: int = 1  # that are to serve miners
    processes_serving: int = 1
    processes_died: int = 0  # since the start
    hub: HubFigures = NO_HUB  # edges at other sites
    signals: tuple[Source, ...] = ()
    power: PowerNow | None = None
    curtailment: PowerStatus = NO_EVENTS
    lasting: tuple[LastingLook, ...] = ()


def machine_figures(
    registry: Registry, hashrates: HashrateBook, now_s: float, unheard: Unheard = everybody_is_heard
) -> MachineFigures:
    """Of every worker, in some milliseconds for 22,400."""
    known = registry.workers.values()
    workers = np.fromiter((it.id for it in known), dtype=np.int64, count=len(known))
    containers = np.fromiter((it.container_id for it in known), dtype=np.int64, count=len(known))
    rates, _, ages_s = hashrates.machines(now_s)
    ages_s = ages_s[workers]
    return MachineFigures(
        workers=workers,
        containers=containers,
        ages_s=ages_s,
        hashrates_hps=rates[workers],
        rejected_hps=hashrates.rejected_hps(now_s)[workers],
        unheard=unheard(workers, containers, ages_s),
    )


def receivers_of(
    settings: MessageSettings, known: Mapping[ReceiverSettings, Receiver] | None = None
) -> tuple[Receiver, ...]:
    """Whoever is told, of whom some are known. Raises BadConfig for a URL that nothing can be made of."""
    known = known or {}
    return tuple(known.get(it) or Receiver(it.name, _sender(it), it.least) for it in settings.receivers)


def _sender(it: ReceiverSettings) -> Sender:
    if it.secret is not None:
        return Webhook(it.url, it.secret)
    from pool.messages.apprise_sender import (
        AppriseSender,
        BadReceiver,
    )  # half a second, of who tells somebody

    try:
        return AppriseSender(it.url)
    except BadReceiver as error:
        raise BadConfig(f"messages.to, number {it.name}: {error}") from None


def _signal(it: Source, now_s: int) -> SignalLook:
    age_s = None if it.refused_at_s is None else now_s - it.refused_at_s
    return SignalLook(it.name, it.silent_s(now_s), age_s, it.refused)


def trial(wall_clock: Callable[[], float]) -> Message:
    """To see whether messages arrive."""
    return Message(
        kind="test",
        happened=Happened.TEST,
        severity=Severity.INFO,
        subjects=(),
        title="a test",
        text="Somebody wants to know whether this arrives. It does.",
        at_s=int(wall_clock()),
    )


class Messenger:
    """`figures` is called in the pool's loop. Raises BadConfig for a receiver that can be none."""

    def __init__(
        self,
        settings: MessageSettings,
        store: Store,
        data_dir: Path,
        endpoints: Sequence[Endpoint],
        *,
        figures: Callable[[], Awaitable[Figures]],
        journal_failed: Callable[[], bool],
        machine_name: Callable[[int], str],
        on_message: Callable[[Message], None] = lambda message: None,
        outbox: Outbox | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.outbox = outbox or Outbox(receivers_of(settings))
        self._known = dict(zip(settings.receivers, self.outbox.receivers, strict=False))
        self.raised: tuple[Raised, ...] = ()  # what is wrong, as of the last look
        self._settings, self._store, self._wall_clock = settings, store, wall_clock
        self._data_dir, self._endpoints = data_dir, [it for it in endpoints if it.certificate is not None]
        self._figures, self._journal_failed, self._machine_name = figures, journal_failed, machine_name
        self._on_message = on_message
        self._file = MemoryFile(data_dir)
        self._remembered = Remembered()
        self._teller = Teller(self._remembered.memory, remind_s=settings.remind_s)
        self._machines: Machines | None = None
        self._booked: Booked | None = None
        self._books_words = ""
        self._died = deque([0], maxlen=1 + DIED_LOOKS)  # processes since the start, as of each look
        self._guesses = deque([0], maxlen=1 + round(HOUR_S / LOOK_S))  # since the start, as of each look

    async def run(self) -> None:
        """Until cancelled; with some last words where the journal failed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.outbox.run)
                await self.remember()
                while True:
                    await self.look()
                    await trio.sleep(LOOK_S)
        finally:
            if self._journal_failed():
                with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WORDS_S):
                    await self._last_words()

    def prepared(self, settings: MessageSettings) -> tuple[Receiver, ...]:
        """Whoever is told by other settings: of who is told already what waits goes on. Blocks, and may be
        called from any thread. Raises BadConfig."""
        return receivers_of(settings, self._known)

    def use(self, settings: MessageSettings, receivers: tuple[Receiver, ...]) -> None:
        """Have other settings in force, and whom `prepared` made of them."""
        self._settings, self._known = settings, dict(zip(settings.receivers, receivers, strict=True))
        self._teller.remind_s = settings.remind_s
        self.outbox.replace(receivers)

    async def look(self) -> None:
        """One look, and what is to be told of it."""
        try:
            messages = await trio.to_thread.run_sync(self._look, await self._figures())
        except Exception:  # a mistake of ours in words about the pool must not cost miners their work
            log.exception("messages_failed")
            return
        for message in messages:
            self.outbox.put(message)
            self._on_message(message)

    async def test(self) -> list[Answer]:
        """One message to everybody; what each answered."""
        return await self.outbox.send_now(trial(self._wall_clock))

    async def remember(self) -> None:
        """What the pool before this one told."""
        self._remembered = await trio.to_thread.run_sync(self._file.read)
        self._teller = Teller(self._remembered.memory, remind_s=self._settings.remind_s)

    def _look(self, figures: Figures) -> list[Message]:
        """In a worker thread."""
        now_s = self._now_s()
        away = self._read_books(now_s)
        events = list(self._booked.events) if self._booked is not None and not away else []
        containers, gone = self._containers(figures.machines)
        self._guesses.append(figures.guesses)
        self._died.append(figures.processes_died)
        events += self._gone(gone)
        look = Look(
            running_s=figures.running_s,
            job_age_s=figures.job_age_s,
            containers=containers,
            nodes=figures.nodes,
            upstreams=self._upstreams(figures.upstreams),
            orders=self._orders(figures.orders),
            waiting=() if self._booked is None else self._booked.waiting,
            certificates=tuple(_certificate(it, now_s) for it in self._endpoints),
            disk_free_bytes=_free_bytes(self._data_dir),
            guesses=self._guesses[-1] - self._guesses[0],
            unbooked_s=figures.unbooked_s,
            books_away=away,
            processes=figures.processes,
            processes_serving=figures.processes_serving,
            processes_died=self._died[-1] - self._died[0],
            hub=figures.hub,
            signals=tuple(_signal(it, now_s) for it in figures.signals),
            power=() if figures.power is None else limited(figures.power),
            meters=() if figures.power is None else metered(figures.power),
            curtailment=figures.curtailment,
            lasting=figures.lasting,
        )
        limits = self._settings.thresholds
        findings = edge_conditions(look, limits) + conditions(look, limits, self._teller.raised)
        findings += [*signal_conditions(look), *power_conditions(look, self._teller.raised)]
        findings += [*curtailment_conditions(look), *lasting_conditions(look, self._teller.raised)]
        silenced = frozenset() if self._booked is None else self._booked.silenced
        messages = self._teller.look(findings, events, silenced, now_s)
        if self._remembered.journal_failed:
            self._remembered.journal_failed = False
            messages.append(self._journal(Happened.RECOVERED, "miners are served again"))
        self.raised = tuple(self._teller.all_raised())
        self._file.write(self._remembered)
        return messages

    def _read_books(self, now_s: int) -> bool:
        """Whether they are away; then what they said last counts."""

        def read(connection: Connection) -> Booked:
            if self._remembered.cursors is None:
                self._remembered.cursors = cursors_now(connection)
            if self._machines is None:
                self._machines = Machines(last_shares(connection))
            return booked(connection, self._remembered.cursors, now_s)

        try:
            with self._store.read() as connection:
                self._booked = read(connection)
        except DATABASE_ERRORS as error:
            words = words_of(error)[:300]
            if not self._books_words:
                log.error("messages_without_books", reason=words)
            self._books_words = words
            return True
        self._remembered.cursors = self._booked.cursors
        self._books_words = ""
        return False

    def _containers(self, figures: MachineFigures) -> tuple[tuple[ContainerLook, ...], list[Gone]]:
        """As the books call them: one without a row yet has no name, and waits a minute."""
        if self._machines is None or self._booked is None:
            return (), []
        usual, mining, gone = self._machines.look(
            figures.workers, figures.containers, figures.ages_s, self._wall_clock(), figures.unheard
        )
        numbers, index = np.unique(figures.containers, return_inverse=True)
        row = {number: at for at, number in enumerate(numbers.tolist())}

        def sums(values: Floats) -> list[float]:
            return list(np.bincount(index, values, len(numbers)).tolist())

        unheard = np.zeros(len(mining), dtype=np.bool_) if figures.unheard is None else figures.unheard
        unheard = unheard & usual & ~mining
        usuals, minings, losts = (sums(it.astype(float)) for it in (usual & ~unheard, mining, unheard))
        rates, rejected = sums(figures.hashrates_hps), sums(figures.rejected_hps)
        return tuple(
            ContainerLook(
                name=it.name,
                tenant=it.tenant,
                site=it.site,
                usual=int(usuals[at]),
                mining=int(minings[at]),
                hashrate_hps=rates[at],
                rejected_hps=rejected[at],
                nameplate_hps=it.nameplate_hps,
                unheard=int(losts[at]),
            )
            for it in self._booked.containers
            if (at := row.get(it.id)) is not None
        ), gone

    def _gone(self, gone: Sequence[Gone]) -> list[Event]:
        known = {} if self._booked is None else {it.id: it for it in self._booked.containers}
        events = []
        for it in gone:
            container = known.get(it.container)
            share = 100 * len(it.workers) / it.before
            if container is None or share < self._settings.thresholds.gone_percent:
                continue
            names = trio.from_thread.run_sync(self._names, it.workers[:NAMES_MAX])
            more = len(it.workers) - len(names)
            listed = ", ".join(names) + (f" and {grouped(more)} more" if more else "")
            site = () if container.site is None else (f"site/{plain(container.site)}",)
            events.append(
                Event(
                    kind="machines-gone",
                    subject=f"container/{plain(container.name, 2 * WORDS_CHARS_MAX)}",
                    name=plain(container.name),
                    words=f"{plain(container.name)}: {grouped(len(it.workers))} of {grouped(it.before)} are"
                    f" missing after an outage: {listed}",
                    under=(f"tenant/{plain(container.tenant)}", *site),
                )
            )
        return events

    def _names(self, workers: Sequence[int]) -> list[str]:
        return [plain(self._machine_name(number)) for number in workers]

    def _upstreams(self, channels: Sequence[UpstreamStatus]) -> tuple[UpstreamLook, ...]:
        """Each once: the channel that is away for the longest speaks for those of its orders too."""
        worst: dict[int, UpstreamStatus] = {}
        for it in channels:
            known = worst.get(it.upstream_id)
            if known is None or (it.serving is None, it.since_s) > (known.serving is None, known.since_s):
                worst[it.upstream_id] = it
        names = {} if self._booked is None else self._booked.upstreams
        return tuple(
            UpstreamLook(
                name=names.get(number, f"number {number}"),
                away_s=it.since_s if it.serving is None else None,
                reason=next((endpoint.reason for endpoint in it.endpoints if endpoint.reason), ""),
                diverted=it.diverted,
            )
            for number, it in sorted(worst.items())
        )

    def _orders(self, orders: Sequence[OrderStatus]) -> tuple[OrderLook, ...]:
        names = {} if self._booked is None else self._booked.orders
        return tuple(
            OrderLook(names.get(it.order_id, f"number {it.order_id}"), it.supply_hps, it.shortage_hps)
            for it in orders
        )

    async def _last_words(self) -> None:
        """That the journal failed: to everybody at once, since nobody tries again."""
        self._remembered.journal_failed = True
        await trio.to_thread.run_sync(self._file.write, self._remembered)
        await self.outbox.send_now(
            self._journal(
                Happened.RAISED, "nothing of the last commit was acknowledged to any miner; see the log"
            )
        )

    def _journal(self, happened: Happened, words: str) -> Message:
        kind = KINDS["journal-failed"]
        return Message(
            kind="journal-failed",
            happened=happened,
            severity=kind.severity,
            subjects=("pool",),
            title=kind.title(happened, [""]),
            text=words,
            at_s=self._now_s(),
        )

    def _now_s(self) -> int:
        return int(self._wall_clock())


def _certificate(endpoint: Endpoint, now_s: int) -> CertificateLook:
    listener = f"{endpoint.host}:{endpoint.port}"
    assert endpoint.certificate is not None
    try:
        until_s = valid_until_s(endpoint.certificate)
    except BadCertificate as error:
        return CertificateLook(listener, None, str(error))
    left_s = until_s - now_s
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(until_s))
    return CertificateLook(listener, left_s, f"{'until' if left_s > 0 else 'ended on'} {until}")


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:  # a disk that is gone: the journal knows first
        return None
