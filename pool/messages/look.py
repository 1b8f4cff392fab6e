"""What a pool does at one moment, in plain values: all that conditions are judged by.

Must not know: where the values are from, and what is made of them.
"""

import msgspec

from pool.books.edges.watch import NO_HUB, HubFigures
from pool.power.curtailment.status import NO_EVENTS, PowerStatus


class ContainerLook(msgspec.Struct, frozen=True, kw_only=True):
    """A container of a tenant. `usual`: machines that had a share within a day; `mining`: within minutes. Of
    the `unheard`, who are not among the usual, nothing is known: they are not missed."""

    name: str  # tenant.container
    tenant: str
    site: str | None
    usual: int
    mining: int
    hashrate_hps: float  # of five minutes
    rejected_hps: float  # likewise: work that was done and is good for nothing
    nameplate_hps: float | None
    unheard: int = 0


class NodeLook(msgspec.Struct, frozen=True):
    name: str
    up: bool
    reason: str


class UpstreamLook(msgspec.Struct, frozen=True):
    """`away_s`: for how long no endpoint has served, None while one does."""

    name: str
    away_s: float | None
    reason: str
    diverted: bool


class OrderLook(msgspec.Struct, frozen=True):
    name: str
    supply_hps: float
    shortage_hps: float  # 0.0 within the tolerance


class CertificateLook(msgspec.Struct, frozen=True):
    """`left_s` None: it cannot be read, `words` say why."""

    listener: str
    left_s: float | None
    words: str


class SignalLook(msgspec.Struct, frozen=True):
    """Who may ask for curtailment beside persons. `silent_s` 0: it is heard of; `refused_age_s` None: nothing
    of it was refused since the start."""

    name: str
    silent_s: int
    refused_age_s: int | None
    refused: str


class WaitingLook(msgspec.Struct, frozen=True):
    """What a second person has to say yes or no to."""

    subject: str  # payout/12, proposal/3, request/7
    since_s: float
    words: str


class PowerLook(msgspec.Struct, frozen=True):
    """A site, or a container, that has a limit."""

    kind: str  # site, container
    name: str
    watts: int
    limit_watts: int
    basis: str


class MeterLook(msgspec.Struct, frozen=True):
    """`wrong` None: it reads, and counts."""

    name: str
    wrong: str | None


class Lasting(msgspec.Struct, frozen=True):
    """Something that is wrong until it is not listed any more: a machine, a meter, a tenant."""

    name: str
    words: str


class LastingLook(msgspec.Struct, frozen=True, kw_only=True):
    """All that is wrong of one kind. `whole`: what is not listed is well; else nothing is known of it."""

    kind: str
    of: str  # what it is said of, as subjects begin
    listed: tuple[Lasting, ...]
    whole: bool
    well: str  # words of one that is not wrong any more


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. What needs the books is empty, and `books_away` true, where they did not answer."""

    running_s: float  # since the start
    job_age_s: float  # of our own work; since the start where there was none yet
    containers: tuple[ContainerLook, ...] = ()
    nodes: tuple[NodeLook, ...] = ()
    upstreams: tuple[UpstreamLook, ...] = ()
    orders: tuple[OrderLook, ...] = ()
    waiting: tuple[WaitingLook, ...] = ()
    certificates: tuple[CertificateLook, ...] = ()
    disk_free_bytes: int | None = None
    guesses: int = 0  # wrong tokens that were shown within the last hour
    unbooked_s: float = 0.0  # since the oldest share came that waits in the journal for the books
    books_away: bool = False
    processes: int = 1  # that are to serve miners
    processes_serving: int = 1
    processes_died: int = 0  # within the last minutes
    hub: HubFigures = NO_HUB  # edges at other sites
    signals: tuple[SignalLook, ...] = ()
    power: tuple[PowerLook, ...] = ()
    meters: tuple[MeterLook, ...] = ()
    curtailment: PowerStatus = NO_EVENTS
    lasting: tuple[LastingLook, ...] = ()
