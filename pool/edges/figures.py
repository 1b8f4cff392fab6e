"""What a process that serves miners does at one moment, as a value: all that is told of it anywhere.

Metrics, the page, messages and readiness read this and nothing of its parts. So it goes from one process to
another, and what several of them say adds up to what one would say that served all their miners.

Counts and machines add up. Of what is a state, the worst counts: the oldest age, the lowest height, a node
that one of them does not reach. Ages and not moments: each process has a clock of its own.

Bounded by what it is taken of: standings, reasons, kinds and families are words of ours, nodes and upstreams
those of the settings. Must not know: where the figures are from, who reads them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from stratum.figures import Count, Seconds
from stratum.histogram import Histogram
from stratum.miners.firmware import Family
from stratum.miners.uncharged import Uncharged
from stratum.upstream.shares import RejectReason, SubmitVerdict

# Of one process. More are not its own: who has taken over a site invents them.
KINDS_MAX: Final = 1_024  # reasons, kinds, families: a hundred there are
NODES_MAX: Final = 64  # by the settings 16
ANSWERS_MAX: Final = 4_096  # upstreams there may be 64, and of each nine answers
WORD_CHARS_MAX: Final = 200
WORDS_CHARS_MAX: Final = 1_000  # of a sentence

Word = Annotated[str, Meta(max_length=WORD_CHARS_MAX)]
Words = Annotated[str, Meta(max_length=WORDS_CHARS_MAX)]
Counts = Annotated[dict[Word, Count], Meta(max_length=KINDS_MAX)]
Answer = tuple[int, SubmitVerdict, RejectReason | None]  # of which upstream, what it said, and why
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class NodeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A bitcoind."""

    name: Word
    up: bool
    reason: Words  # why it is not
    current: bool  # it is mined on
    tip_height: Count | None  # None: it was never up
    template_times: Histogram


class Sv2Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of Stratum V2."""

    connections: Count = 0  # now
    channels: Count = 0  # now
    handshakes: Count = 0


class EdgeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are since the start."""

    sessions: Counts  # now, by standing
    ended: Counts  # connections, by why
    moved: Counts  # machines, by how
    firmware: Annotated[dict[Word, Family], Meta(max_length=KINDS_MAX)]
    sv2: Sv2Figures = Sv2Figures()
    uncharged: list[Count]  # as stratum.miners.uncharged counts
    unresolved: Count  # shares that were forwarded and have no answer yet
    answers: Annotated[dict[Answer, Count], Meta(max_length=ANSWERS_MAX)]  # shares
    acknowledgements: Histogram
    commits: Histogram
    distributions: Histogram  # of work on another block
    nodes: Annotated[tuple[NodeFigures, ...], Meta(max_length=NODES_MAX)]
    without_node_s: Seconds | None  # for how long none of them answers; None while one does
    template_age_s: Seconds | None  # None: none has come yet
    template_height: Count | None
    commit_age_s: Seconds | None  # of the one that is under way
    journal_failed: bool
    unfolded: Count  # batches that the books have not taken
    unfolded_age_s: Seconds | None  # of the oldest
    refuses: Words | None  # why nobody is let in
    listeners: Count  # that are open


class ProcessFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Of all processes that are to serve miners, as who starts them knows it."""

    of: int
    serving: int
    died: int  # since the start


ALONE: Final = ProcessFigures(of=1, serving=1, died=0)  # a pool in one process, as long as it lives
# While no process serves miners: each is about to begin.
NOBODY: Final = EdgeFigures(
    sessions={},
    ended={},
    moved={},
    firmware={},
    uncharged=Uncharged().since_start.tolist(),
    unresolved=0,
    answers={},
    acknowledgements=Histogram(),
    commits=Histogram(),
    distributions=Histogram(),
    nodes=(),
    without_node_s=None,
    template_age_s=None,
    template_height=None,
    commit_age_s=None,
    journal_failed=False,
    unfolded=0,
    unfolded_age_s=None,
    refuses="no process serves miners",
    listeners=0,
)


def merged(figures: Sequence[EdgeFigures]) -> EdgeFigures:
    """Of all who serve miners."""
    figures = figures or (NOBODY,)
    first, *rest = figures
    if not rest:
        return first
    ages_s = [it.template_age_s for it in figures]
    heights = [it.template_height for it in figures]
    return EdgeFigures(
        sessions=added(it.sessions for it in figures),
        ended=added(it.ended for it in figures),
        moved=added(it.moved for it in figures),
        firmware={name: _family(of) for name, of in grouped(it.firmware for it in figures).items()},
        sv2=Sv2Figures(
            connections=sum(it.sv2.connections for it in figures),
            channels=sum(it.sv2.channels for it in figures),
            handshakes=sum(it.sv2.handshakes for it in figures),
        ),
        uncharged=[sum(column) for column in zip(*(it.uncharged for it in figures), strict=True)],
        unresolved=sum(it.unresolved for it in figures),
        answers=added(it.answers for it in figures),
        acknowledgements=first.acknowledgements.plus(*(it.acknowledgements for it in rest)),
        commits=first.commits.plus(*(it.commits for it in rest)),
        distributions=first.distributions.plus(*(it.distributions for it in rest)),
        nodes=tuple(
            _node(of) for of in grouped({node.name: node for node in it.nodes} for it in figures).values()
        ),
        without_node_s=_oldest(it.without_node_s for it in figures),
        template_age_s=None if None in ages_s else _oldest(ages_s),
        template_height=min((it for it in heights if it is not None), default=None),
        commit_age_s=_oldest(it.commit_age_s for it in figures),
        journal_failed=any(it.journal_failed for it in figures),
        unfolded=sum(it.unfolded for it in figures),
        unfolded_age_s=_oldest(it.unfolded_age_s for it in figures),
        refuses=next((it.refuses for it in figures if it.refuses is not None), None),
        listeners=min(it.listeners for it in figures),  # all of them listen at the same endpoints
    )


def added(counts: Iterable[Mapping[_Key, int]]) -> dict[_Key, int]:
    """By key; one that is nothing everywhere stays."""
    return {key: sum(of) for key, of in grouped(counts).items()}


def grouped(mappings: Iterable[Mapping[_Key, _Value]]) -> dict[_Key, list[_Value]]:
    """What each of them has for a key, in the order in which keys come."""
    found: dict[_Key, list[_Value]] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            found.setdefault(key, []).append(value)
    return found


def _family(of: Sequence[Family]) -> Family:
    return Family(sum(it.here for it in of), sum(it.accepted for it in of), sum(it.rejected for it in of))


def _node(of: Sequence[NodeFigures]) -> NodeFigures:
    """Of one that several ask: who does not reach it says why; it is current where one mines on it."""
    said = next((it for it in of if not it.up), of[0])
    heights = [it.tip_height for it in of if it.tip_height is not None]
    first, *rest = (it.template_times for it in of)
    return NodeFigures(
        name=said.name,
        up=said.up,
        reason=said.reason,
        current=any(it.current for it in of),
        tip_height=min(heights, default=None),
        template_times=first.plus(*rest),
    )


def _oldest(ages_s: Iterable[float | None]) -> float | None:
    return max((it for it in ages_s if it is not None), default=None)
