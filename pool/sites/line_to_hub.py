"""An edge's end of what it and the hub ask each other, over a connection that somebody else runs.

Must not know: who answers for the edge.
"""

from pool.hub import HubAway
from pool.questions import asking
from pool.sites.nats import subjects
from pool.sites.nats.connection import Connection
from pool.sites.nats.contents import Shelf
from pool.sites.nats.line import HubEpoch, Line
from pool.sites.nats.replies import Replies
from pool.sites.questions import CROSSING, SiteHub


class LineToHub:
    """Of the edge of that name. `replies` run before anything is asked."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.replies = Replies(connection, subjects.inbox_of(name))
        self.epoch = HubEpoch()
        self.line = Line(
            connection,
            name,
            self.replies,
            at_hub=False,
            epoch=self.epoch,
            shelf=Shelf(),
            errors=CROSSING,
            away=HubAway,
        )
        self.hub: SiteHub = asking(self.line, SiteHub)
