"""Whether miners can be served here and are credited: what a balancer, an operator and an alert want to know.

Each condition is read off the part that has it, as of now, without waiting. The words are for anybody: they
name no node, no address, no tenant. Must not know: who asks.
"""

from typing import Final

import msgspec
import trio

from pool.books.journal.journal import Journal
from pool.books.lease_watch import LeaseWatch
from pool.chain.node_set import NodeSet
from pool.chain.template_watch import TemplateWatch
from stratum.miners.listening.listeners import Server
from stratum.miners.turns.connection_limits import ConnectionLimits

TEMPLATE_AGE_MAX_S: Final = 120.0  # they come every half minute: four in a row have not
COMMIT_MAX_S: Final = 5.0  # a commit is milliseconds, and shares wait for it
LEASE_AGE_MAX_S: Final = 15.0  # looked at every two seconds; a database takes its time


class Condition(msgspec.Struct, frozen=True):
    """One thing that has to be so."""

    name: str
    good: bool
    words: str


class Readiness:
    """Of one pool's parts."""

    def __init__(
        self,
        *,
        nodes: NodeSet,
        templates: TemplateWatch,
        journal: Journal,
        lease: LeaseWatch,
        connection_limits: ConnectionLimits,
        server: Server,
    ) -> None:
        self._nodes, self._templates, self._journal, self._lease = nodes, templates, journal, lease
        self._connection_limits, self._server = connection_limits, server

    def conditions(self) -> tuple[Condition, ...]:
        """As of now."""
        now_s = trio.current_time()
        return (
            Condition("node", *self._node(now_s)),
            Condition("template", *self._template(now_s)),
            Condition("journal", *self._commits(now_s)),
            Condition("lease", *self._held(now_s)),
            Condition("listeners", *self._listeners()),
        )

    def _node(self, now_s: float) -> tuple[bool, str]:
        since_s = self._nodes.outage_since_s
        if since_s is None:
            return True, "a bitcoin node answers"
        return False, f"no bitcoin node answers, for {now_s - since_s:.0f} s"

    def _template(self, now_s: float) -> tuple[bool, str]:
        came_s = self._templates.delivered_s
        if came_s is None:
            return False, "no template has come yet"
        age_s = now_s - came_s
        words = f"the last template came {age_s:.0f} s ago"
        if age_s <= TEMPLATE_AGE_MAX_S:
            return True, words
        return False, f"{words}, and more than {TEMPLATE_AGE_MAX_S:.0f} s is too long"

    def _commits(self, now_s: float) -> tuple[bool, str]:
        if self._journal.failed:
            return False, "the journal has failed: nothing is acknowledged, and the pool stops"
        since_s = self._journal.commits_since_s
        if since_s is None or now_s - since_s <= COMMIT_MAX_S:
            return True, "what is committed is on disk"
        return False, f"shares wait for a commit, for {now_s - since_s:.0f} s"

    def _held(self, now_s: float) -> tuple[bool, str]:
        age_s = now_s - self._lease.held_s
        if age_s <= LEASE_AGE_MAX_S:
            return True, "this pool is the writer of its books"
        if self._lease.books_away:  # whoever writes there now: what is acknowledged here is booked once
            return True, f"the books do not answer, for {age_s:.0f} s: shares wait in the journal"
        return False, f"nobody knows whether this pool is the writer of its books, for {age_s:.0f} s"

    def _listeners(self) -> tuple[bool, str]:
        closed = self._connection_limits.refuses
        if closed is not None:
            return False, f"miners are not let in: {closed}"
        count = len(self._server.addresses)
        return (True, f"{count} open") if count else (False, "not open yet")
