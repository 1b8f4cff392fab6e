"""What is wrong at one moment: every condition, its threshold, and its hysteresis.

Pure: a look, the thresholds, and which conditions were raised before; out comes a finding for everything that
can be judged. A finding holds, or does not, or nothing can be said (then all stays as it was). What has a
cause that is told says nothing for itself: of a site that is offline no container is told, and while all
machines are gone no site.

Hysteresis is twofold: a condition that is raised ends at a better figure than it began at, and either way
takes so many looks in a row, of which there is one a minute.

Must not know: clocks, what was told, whom.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pool.books.edges.watch import NO_HUB
from pool.messages.look import ContainerLook, Look
from pool.messages.message import WORDS_CHARS_MAX, plain
from pool.reports.figures import grouped, hashrate

LOOK_S: Final = 60.0
# Machines come back within minutes of a start; who has not by then is missed.
START_S: Final = 600.0
# A breaker that trips is seen at once; a switch that is restarted takes two minutes, and is nobody's matter.
OFFLINE_LOOKS: Final = 3
BACK_LOOKS: Final = 2
OFFLINE_ENDS_PERCENT: Final = 50  # gone; a container that boots is at once far below
# A fan that is cleaned, a firmware that tunes itself for a quarter of an hour.
NAMEPLATE_LOOKS: Final = 30
NAMEPLATE_ENDS_PERCENT: Final = 3  # above where it begins: a five-minute average of 400 machines has 0.7 %
REJECTS_LOOKS: Final = 10  # a block's stale shares are seconds
REJECTS_END: Final = 0.6  # of where it begins
WELL_LOOKS: Final = 5
DIED_LOOKS: Final = 5  # one that dies again is started once a minute at least
GUESSES_END: Final = 0.5  # of where it begins
DISK_ENDS: Final = 1.5  # times what it begins at
DAY_S: Final = 86_400.0
ALL: Final = "all"


Percent = Annotated[float, Meta(ge=0.1, le=100)]
Seconds = Annotated[float, Meta(ge=60, le=86_400)]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where on something is told."""

    # Less is for lists; this is a cable, a switch, a breaker.
    offline_percent: Annotated[
        Percent, Meta(description="Of the machines of a container, a site, or all, that are offline")
    ] = 90.0
    # Machines of one model differ by 5 %, and one in twenty is in repair.
    nameplate_percent: Annotated[
        Percent, Meta(description="Of what its nameplate says a container does less")
    ] = 85.0
    # Usual are 0.5 %; 1 % is a slow line; what rejects 5 % has a wrong firmware or clock.
    rejected_percent: Annotated[
        Percent, Meta(description="Of the work of a tenant or a container that is rejected")
    ] = 5.0
    # Of 400 machines four.
    gone_percent: Annotated[
        Percent, Meta(description="Of a container's machines that are not back after an outage")
    ] = 1.0
    # Miners leave a pool that sends none for some minutes.
    no_job_s: Annotated[
        Seconds, Meta(description="Without work of a node, which comes every half minute")
    ] = 120.0
    node_down_s: Annotated[Seconds, Meta(description="A restart of bitcoind takes a minute")] = 120.0
    upstream_down_s: Annotated[
        Seconds, Meta(description="A reconnection takes seconds, a maintenance minutes")
    ] = 120.0
    # The allocator moves a machine every ten minutes at most: before, it is still at work on it.
    order_short_s: Annotated[
        Seconds, Meta(description="An order is delivered under its tolerance so long")
    ] = 900.0
    # Whoever made it may be about to ask for its approval.
    waiting_s: Annotated[
        Seconds, Meta(description="A payout, proposal or request waits so long for a person")
    ] = 300.0
    # Renewals run 30 days before the end: two weeks late is a fault.
    certificate_days: Annotated[
        float, Meta(ge=1, le=365, description="Before the end of a listener's certificate")
    ] = 14.0
    # A page with an old token, or a program that is set up wrong, asks a few times an hour.
    guesses_an_hour: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Wrong tokens that are shown within an hour")
    ] = 100
    # The books take the journal once a minute, and 4 GiB of it wait: 18 hours of the built-out site.
    unbooked_s: Annotated[
        Seconds, Meta(description="The oldest share that waits for the books came so long ago")
    ] = 600.0
    # Miners there notice nothing of a line that is down for minutes.
    edge_silent_s: Annotated[Seconds, Meta(description="An edge at another site is not heard of so long")] = (
        300.0
    )
    # So long the books wait: what comes later is of a later hour.
    edge_lags_s: Annotated[
        Seconds, Meta(description="Shares of an edge at another site are not in the books so long")
    ] = 900.0
    # A site's journal writes 100 MiB a day, and a database needs as much as it has to tidy up.
    disk_free_gib: Annotated[
        float, Meta(ge=0.1, le=10_000, description="Free where the data directory is")
    ] = 5.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of one condition. `holds` None: nothing. `under`: what else would silence it."""

    kind: str
    subject: str  # what/name, or what there is one of
    name: str  # in titles
    holds: bool | None
    words: str
    raise_looks: int
    clear_looks: int = WELL_LOOKS
    under: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.subject}"


Raised = Collection[str]  # keys


def conditions(look: Look, limits: Thresholds, raised: Raised) -> list[Finding]:
    """Everything that can be judged, in the order of causes."""
    work = _work(look, limits)
    # Who was let go, or has no work, is no machine that is broken.
    blind = look.running_s < START_S or work.key in raised or look.job_age_s >= limits.no_job_s
    offline = list(_offline(look, limits, raised, blind=blind))
    gone = {it.subject for it in offline if it.holds or it.holds is None or it.key in raised}
    return [
        work,
        *_nodes(look, limits),
        *offline,
        *_nameplates(look, limits, raised, gone),
        *_rejects(look, limits, raised, blind=blind),
        *_upstreams(look, limits),
        *_orders(look, limits),
        *_waiting(look, limits),
        *_certificates(look, limits),
        *_disk(look, limits, raised),
        _guesses(look, limits, raised),
        Finding(
            kind="books-away",
            subject="books",
            name="",
            holds=look.books_away,
            words="miners notice nothing: shares wait in the journal, and are credited when it answers"
            if look.books_away
            else "it answers",
            raise_looks=2,
            clear_looks=1,
        ),
        _lag(look, limits),
        _processes(look),
    ]


def looks(seconds: float) -> int:
    """How many in a row are so long."""
    return max(1, round(seconds / LOOK_S))


def _work(look: Look, limits: Thresholds) -> Finding:
    """Of a hub nobody knows while it hears of no edge: its miners are theirs."""
    unknown = look.hub != NO_HUB and not any(it.heard and it.state != "silent" for it in look.hub.edges)
    return Finding(
        kind="no-job",
        subject="work",
        name="",
        holds=None if unknown else look.job_age_s >= limits.no_job_s,
        words=f"the last work is {look.job_age_s:.0f} s old; nodes up: "
        f"{sum(node.up for node in look.nodes)} of {len(look.nodes)}",
        raise_looks=1,
        clear_looks=1,
    )


def _nodes(look: Look, limits: Thresholds) -> Iterator[Finding]:
    for node in look.nodes:
        unknown = not node.up and look.running_s < LOOK_S  # it may just not have been asked yet
        yield Finding(
            kind="node-down",
            subject=f"node/{plain(node.name)}",
            name=plain(node.name),
            holds=None if unknown else not node.up,
            words="it is up" if node.up else plain(node.reason, WORDS_CHARS_MAX) or "it did not answer yet",
            raise_looks=looks(limits.node_down_s),
        )


def _offline(look: Look, limits: Thresholds, raised: Raised, *, blind: bool) -> Iterator[Finding]:
    """All of them, then sites, then containers."""
    sites = _by(look.containers, lambda it: it.site)
    places = len(sites) + len([it for it in look.containers if it.site is None])

    def finding(
        kind: str, subject: str, name: str, of: list[ContainerLook], under: tuple[str, ...], told: bool
    ) -> Finding:
        usual, mining = sum(it.usual for it in of), sum(it.mining for it in of)
        holds = None
        if usual and not blind and not told:
            gone = 100 * (usual - mining) / usual
            begins = f"{kind}:{subject}" not in raised
            holds = gone >= limits.offline_percent if begins else gone > OFFLINE_ENDS_PERCENT
        return Finding(
            kind=kind,
            subject=subject,
            name=plain(name, 2 * WORDS_CHARS_MAX),
            holds=holds,
            words=f"{plain(name) or 'all'}: {grouped(mining)} of {grouped(usual)} machines mine"
            + (f", in {len(of)} containers" if len(of) > 1 else ""),
            raise_looks=OFFLINE_LOOKS,
            clear_looks=BACK_LOOKS,
            under=under,
        )

    everything = finding("all-offline", "machines", "", list(look.containers), (), told=places < 2)
    told = everything.holds or everything.key in raised
    if places >= 2:
        yield everything
    gone = set()
    for site, of in sites.items():
        if len(of) > 1:
            it = finding("site-offline", f"site/{plain(site)}", site, of, (), told=bool(told))
            yield it
            if told or it.holds or it.key in raised:
                gone.add(site)
    for container in look.containers:
        yield finding(
            "container-offline",
            subject_of(container),
            container.name,
            [container],
            _places(container),
            told=bool(told) or container.site in gone,
        )


def _nameplates(look: Look, limits: Thresholds, raised: Raised, gone: Collection[str]) -> Iterator[Finding]:
    for it in look.containers:
        if not it.nameplate_hps:
            continue
        subject, percent = subject_of(it), 100 * it.hashrate_hps / it.nameplate_hps
        limit = limits.nameplate_percent
        if f"under-nameplate:{subject}" in raised:
            limit += NAMEPLATE_ENDS_PERCENT
        yield Finding(
            kind="under-nameplate",
            subject=subject,
            name=plain(it.name, WORDS_CHARS_MAX),
            holds=None if subject in gone or it.unheard else percent < limit,
            words=f"{plain(it.name)}: {hashrate(int(it.hashrate_hps))} of {hashrate(int(it.nameplate_hps))},"
            f" {percent:.0f} %; {grouped(it.mining)} of {grouped(it.usual)} machines mine",
            raise_looks=NAMEPLATE_LOOKS,
            under=_places(it),
        )


def _rejects(look: Look, limits: Thresholds, raised: Raised, *, blind: bool) -> Iterator[Finding]:
    """Tenants, and containers of those that are well as a whole."""

    def finding(
        kind: str, subject: str, name: str, of: list[ContainerLook], under: tuple[str, ...], told: bool
    ) -> Finding:
        rejected, good = sum(it.rejected_hps for it in of), sum(it.hashrate_hps for it in of)
        holds = None
        percent = 100 * rejected / (rejected + good) if rejected + good > 0 else 0.0
        if good > 0 and not blind and not told:
            limit = limits.rejected_percent
            holds = percent >= (limit * REJECTS_END if f"{kind}:{subject}" in raised else limit)
        return Finding(
            kind=kind,
            subject=subject,
            name=plain(name, WORDS_CHARS_MAX),
            holds=holds,
            words=f"{plain(name)}: {percent:.1f} % of the work of five minutes is rejected",
            raise_looks=REJECTS_LOOKS,
            under=under,
        )

    whole = set()
    for tenant, of in _by(look.containers, lambda it: it.tenant).items():
        if len(of) > 1:
            it = finding("tenant-rejects", f"tenant/{plain(tenant)}", tenant, of, (), told=False)
            yield it
            if it.holds or it.key in raised:
                whole.add(tenant)
    for container in look.containers:
        subject = subject_of(container)
        told = container.tenant in whole
        yield finding(
            "container-rejects", subject, container.name, [container], _places(container), told=told
        )


def _upstreams(look: Look, limits: Thresholds) -> Iterator[Finding]:
    for it in look.upstreams:
        yield Finding(
            kind="upstream-down",
            subject=f"upstream/{plain(it.name)}",
            name=plain(it.name),
            holds=it.away_s is not None and it.away_s >= limits.upstream_down_s,
            words="it serves"
            if it.away_s is None
            else f"for {it.away_s / 60:.0f} min: {plain(it.reason, WORDS_CHARS_MAX)};"
            f" its miners are {'on their fallback' if it.diverted else 'without work of it'}",
            raise_looks=1,
        )


def _orders(look: Look, limits: Thresholds) -> Iterator[Finding]:
    for it in look.orders:
        yield Finding(
            kind="order-short",
            subject=f"order/{plain(it.name)}",
            name=plain(it.name),
            holds=it.shortage_hps > 0,
            words=f"{plain(it.name)}: {hashrate(int(it.supply_hps))} delivered"
            + (f", {hashrate(int(it.shortage_hps))} missing" if it.shortage_hps > 0 else ""),
            raise_looks=looks(limits.order_short_s),
        )


def _waiting(look: Look, limits: Thresholds) -> Iterator[Finding]:
    for it in look.waiting:
        yield Finding(
            kind="waiting",
            subject=it.subject,
            name=it.subject.replace("/", " "),
            holds=it.since_s >= limits.waiting_s,
            words=it.words,
            raise_looks=1,
            clear_looks=1,
        )


def _certificates(look: Look, limits: Thresholds) -> Iterator[Finding]:
    for it in look.certificates:
        left_s = it.left_s
        yield Finding(
            kind="certificate-ends",
            subject=f"certificate/{plain(it.listener)}",
            name=plain(it.listener),
            holds=left_s is None or left_s < limits.certificate_days * DAY_S,
            words=f"{plain(it.listener)}: {plain(it.words, WORDS_CHARS_MAX)}",
            raise_looks=1,
            clear_looks=1,
        )


def _disk(look: Look, limits: Thresholds, raised: Raised) -> Iterator[Finding]:
    if look.disk_free_bytes is None:
        return
    free_gib = look.disk_free_bytes / 2**30
    limit = limits.disk_free_gib * (DISK_ENDS if "disk-full:disk" in raised else 1)
    yield Finding(
        kind="disk-full",
        subject="disk",
        name="",
        holds=free_gib < limit,
        words=f"{free_gib:.1f} GiB are free where the data directory is",
        raise_looks=1,
    )


def _lag(look: Look, limits: Thresholds) -> Finding:
    holds = look.unbooked_s >= limits.unbooked_s
    why = "the database does not answer" if look.books_away else "the log says why (journal_not_taken)"
    return Finding(
        kind="journal-lags",
        subject="journal",
        name="",
        holds=holds,
        words=f"the oldest came {look.unbooked_s / 60:.0f} min ago; {why}. Miners notice nothing, and each is"
        " booked once afterwards: see to the database, its disk and its locks, before the journal is full"
        if holds
        else "what is acknowledged is booked within minutes",
        raise_looks=1,
        clear_looks=1,
    )


def _processes(look: Look) -> Finding:
    return Finding(
        kind="process-died",
        subject="processes",
        name="",
        holds=look.processes_died > 0,
        words=f"{look.processes_serving} of {look.processes} serve miners, {look.processes_died} died in the"
        " last minutes: each is started again, its miners have come to the others meanwhile, and what it"
        " had acknowledged is booked; the log says why (process_died)"
        if look.processes_died
        else f"{look.processes_serving} of {look.processes} serve miners",
        raise_looks=1,
        clear_looks=1,
    )


def _guesses(look: Look, limits: Thresholds, raised: Raised) -> Finding:
    limit = limits.guesses_an_hour * (GUESSES_END if "tokens-guessed:tokens" in raised else 1)
    return Finding(
        kind="tokens-guessed",
        subject="tokens",
        name="",
        holds=look.guesses >= limit,
        words=f"{grouped(look.guesses)} wrong tokens were shown within an hour;"
        " angara change list has from where",
        raise_looks=1,
    )


def subject_of(it: ContainerLook) -> str:
    """What silences call it."""
    return f"container/{plain(it.name, 2 * WORDS_CHARS_MAX)}"


def _places(it: ContainerLook) -> tuple[str, ...]:
    site = () if it.site is None else (f"site/{plain(it.site)}",)
    return (f"tenant/{plain(it.tenant)}", *site)


def _by(
    containers: Iterable[ContainerLook], what: Callable[[ContainerLook], str | None]
) -> dict[str, list[ContainerLook]]:
    groups: dict[str, list[ContainerLook]] = defaultdict(list)
    for it in containers:
        if (name := what(it)) is not None:
            groups[name].append(it)
    return groups
