"""Whether miners can be served here and are credited: what a balancer, an operator and an alert want to know.

Each condition is judged by figures of this moment. The words are for anybody: they
name no node, no address, no tenant. Must not know: who asks.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import trio

from pool.books.lease_watch import LeaseWatch
from pool.edges.edges import Edges
from pool.edges.figures import NOBODY, EdgeFigures, ProcessFigures

TEMPLATE_AGE_MAX_S: Final = 120.0  # they come every half minute: four in a row have not
UNBOOKED_SAID_S: Final = 300.0  # the books take the journal once a minute
COMMIT_MAX_S: Final = 5.0  # a commit is milliseconds, and shares wait for it
LEASE_AGE_MAX_S: Final = 15.0  # looked at every two seconds; a database takes its time


class Condition(msgspec.Struct, frozen=True):
    """One thing that has to be so."""

    name: str
    good: bool
    words: str


class HubLook(msgspec.Struct, frozen=True, kw_only=True):
    """What a hub is there for: whether its own node and NATS answer, and how many edges were heard of."""

    node: bool
    nats: bool
    edges: int
    heard: int


class Readiness:
    """Of a pool that is the writer of its books as long as `lease` says so; of a hub by `hub`."""

    def __init__(self, lease: LeaseWatch, hub: Callable[[], HubLook] | None = None) -> None:
        self._lease, self._hub = lease, hub

    async def now(self, edges: Edges) -> tuple[Condition, ...]:
        """Those who serve miners are asked; not by a hub, where nobody waits for a site that hangs."""
        figures = NOBODY if self._hub is not None else await edges.figures()
        return self.conditions(figures, edges.processes())

    def conditions(self, edges: EdgeFigures, processes: ProcessFigures) -> tuple[Condition, ...]:
        """By what those who serve miners said just now."""
        if self._hub is not None:
            return (*_of_hub(self._hub()), Condition("lease", *self._held()))
        return (
            Condition("node", *_node(edges)),
            Condition("template", *_template(edges)),
            Condition("journal", *_commits(edges)),
            Condition("lease", *self._held()),
            Condition("listeners", *_listeners(edges, processes)),
        )

    def _held(self) -> tuple[bool, str]:
        age_s = trio.current_time() - self._lease.held_s
        if age_s <= LEASE_AGE_MAX_S:
            return True, "this pool is the writer of its books"
        if self._lease.books_away:  # whoever writes there now: what is acknowledged here is booked once
            return True, f"the books do not answer, for {age_s:.0f} s: shares wait in the journal"
        return False, f"nobody knows whether this pool is the writer of its books, for {age_s:.0f} s"


def _of_hub(look: HubLook) -> tuple[Condition, ...]:
    """A site that is cut off is no reason to think ill of the hub, which others mine by."""
    return (
        Condition("node", look.node, "a bitcoin node answers" if look.node else "no bitcoin node answers"),
        Condition("nats", look.nats, "NATS is connected" if look.nats else "no NATS server answers"),
        Condition("edges", True, f"{look.heard} of {look.edges} edges are heard"),
    )


def _node(edges: EdgeFigures) -> tuple[bool, str]:
    if edges.without_node_s is None:
        return True, "a bitcoin node answers"
    return False, f"no bitcoin node answers, for {edges.without_node_s:.0f} s"


def _template(edges: EdgeFigures) -> tuple[bool, str]:
    if edges.template_age_s is None:
        return False, "no template has come yet"
    words = f"the last template came {edges.template_age_s:.0f} s ago"
    if edges.template_age_s <= TEMPLATE_AGE_MAX_S:
        return True, words
    return False, f"{words}, and more than {TEMPLATE_AGE_MAX_S:.0f} s is too long"


def _commits(edges: EdgeFigures) -> tuple[bool, str]:
    if edges.journal_failed:
        return False, "the journal has failed: nothing is acknowledged, and the pool stops"
    if edges.commit_age_s is None or edges.commit_age_s <= COMMIT_MAX_S:
        waits_s = edges.unfolded_age_s or 0.0
        if waits_s >= UNBOOKED_SAID_S:
            return True, f"what is committed is on disk, and waits for the books for {waits_s:.0f} s"
        return True, "what is committed is on disk"
    return False, f"shares wait for a commit, for {edges.commit_age_s:.0f} s"


def _listeners(edges: EdgeFigures, processes: ProcessFigures) -> tuple[bool, str]:
    """One process that serves miners is enough: whoever has lost his comes to it."""
    if edges.refuses is not None:
        return False, f"miners are not let in: {edges.refuses}"
    if not edges.listeners:
        return False, "not open yet"
    several = f", in {processes.serving} of {processes.of} processes" if processes.of > 1 else ""
    return True, f"{edges.listeners} open{several}"
