"""What is wrong with edges at other sites, and with a hub's way to them: as `pool.messages.conditions`.

What has a cause that is told says nothing for itself. While the hub is connected to nothing, no edge is
silent; one that is silent, or held, is not behind; and of machines of an edge that nothing is known of nobody
is told that they are offline (pool.books.edges.watch). So a site that is cut off is one message.

Must not know: clocks, what was told, whom.
"""

from collections.abc import Iterator
from typing import Final

from pool.books.edges.watch import BEYOND_S, UNHEARD_S, RemoteFigures
from pool.messages.conditions import Finding, Thresholds
from pool.messages.look import Look
from pool.messages.message import WORDS_CHARS_MAX, plain
from pool.reports.figures import grouped

LAGS_LOOKS: Final = 5  # whose line is up again sends an hour in minutes


def edge_conditions(look: Look, limits: Thresholds) -> list[Finding]:
    """Everything that can be judged; nothing of a pool that is no hub."""
    return [*_link(look), *_edges(look, limits)]


def _link(look: Look) -> Iterator[Finding]:
    """Of a hub to its edges: a connection is made again in seconds."""
    link = look.hub.link
    if link is None:
        return
    yield Finding(
        kind="nats-away",
        subject="nats",
        name="",
        holds=False if link.connected else True if link.since_s >= UNHEARD_S else None,
        words="edges are heard of"
        if link.connected
        else f"for {link.since_s / 60:.0f} min: {plain(link.error, WORDS_CHARS_MAX) or 'none answers'};"
        " no edge is heard of, and miners there notice nothing",
        raise_looks=1,
        clear_looks=1,
    )


def _edges(look: Look, limits: Thresholds) -> Iterator[Finding]:
    """Whoever is not heard of, since nobody is, or for minutes after that, is not silent."""
    link = look.hub.link
    cut = link is not None and (not link.connected or link.since_s < UNHEARD_S)
    for it in look.hub.edges:
        yield _silent(it, limits, cut=cut)
        yield _held(it)
        yield _beyond(it, look)
        yield _behind(it, limits, told=cut or look.books_away or it.state in ("silent", "held"))


def _silent(it: RemoteFigures, limits: Thresholds, *, cut: bool) -> Finding:
    silent = it.silent_s >= limits.edge_silent_s
    return Finding(
        kind="edge-silent",
        subject=f"edge/{plain(it.name)}",
        name=plain(it.name),
        holds=None if cut or (not it.heard and not silent) else silent,
        words=f"{plain(it.name)}: not heard of for {it.silent_s / 60:.0f} min, and"
        f" {grouped(it.machines)} machines of it neither; if its line is down they mine on, and"
        " each share is booked when it is up again"
        if silent
        else f"{plain(it.name)}: {grouped(it.mining)} machines mine there",
        raise_looks=1,
        clear_looks=1,
    )


def _held(it: RemoteFigures) -> Finding:
    return Finding(
        kind="edge-held",
        subject=f"edge/{plain(it.name)}",
        name=plain(it.name),
        holds=it.state == "held",
        words=f"{plain(it.name)}: {plain(it.why or '', WORDS_CHARS_MAX)}; miners there notice nothing."
        f" Look why (angara edge show {plain(it.name)}); angara edge release has it taken again"
        if it.state == "held"
        else f"{plain(it.name)}: its journal is taken",
        raise_looks=1,
        clear_looks=1,
    )


def _beyond(it: RemoteFigures, look: Look) -> Finding:
    unknown = it.beyond_s is None and look.running_s < BEYOND_S  # what the hub before this one saw
    return Finding(
        kind="edge-beyond-nameplate",
        subject=f"edge/{plain(it.name)}",
        name=plain(it.name),
        holds=None if unknown else it.beyond,
        words=f"{plain(it.name)}: within the last hour it sent half as much again as its machines can do, and"
        " that is booked. Its nameplate is too low (angara edge set --ths), or somebody makes shares up there"
        if it.beyond
        else f"{plain(it.name)}: not within the last hour",
        raise_looks=1,
        clear_looks=1,
    )


def _behind(it: RemoteFigures, limits: Thresholds, *, told: bool) -> Finding:
    """What has a cause that is told is not told of again."""
    waits = f"it waits: {plain(it.why or '', WORDS_CHARS_MAX)}; " if it.state == "waits" else ""
    return Finding(
        kind="edge-lags",
        subject=f"edge/{plain(it.name)}",
        name=plain(it.name),
        holds=None if told else it.state == "waits" or it.late_s >= limits.edge_lags_s,
        words=f"{plain(it.name)}: {waits}shares of up to {it.late_s / 60:.0f} min are not in the books;"
        f" {grouped(it.unbooked)} records of {grouped(it.unbooked_bytes >> 20)} MiB are here and wait",
        raise_looks=LAGS_LOOKS,
    )
