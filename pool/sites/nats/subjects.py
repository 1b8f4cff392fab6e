"""The names of what is said over NATS, and who says it: whoever may publish to a subject is who it names,
since the servers let nobody else.

    angara.hub.<edge>.<method>           the edge asks the hub
    angara.hub.<edge>.answer.<token>     the edge answers the hub
    angara.edge.<edge>.<method>          the hub asks the edge
    angara.journal.<edge>                what the edge's journal says, kept by JetStream
    angara.blocks.<edge>                 a block that it found, for the hub's nodes
    angara.blocks.hub                    one that was new to them, for everybody's
    _INBOX.<edge>.<token>                what the hub, and JetStream, answer the edge

An edge answers below its own subjects, and not with a right to answer (`allow_responses`): whoever has
that may say something once wherever a question to him wants it, and can put the question himself.

Must not know: what is said.
"""

import re
from typing import Final

from pool.fleet.edge_names import HUB as HUB

JOURNAL_STREAM: Final = "ANGARA_JOURNAL"
_TOKEN: Final = re.compile(r"[a-f0-9]{32}")
ANSWER: Final = "answer"


def of_hub(edge: str, method: str) -> str:
    return f"angara.hub.{edge}.{method}"


def of_edge(edge: str, method: str) -> str:
    return f"angara.edge.{edge}.{method}"


def journal_of(edge: str) -> str:
    return f"angara.journal.{edge}"


def blocks_of(edge: str) -> str:
    """The hub's too, by its name."""
    return f"angara.blocks.{edge}"


def inbox_of(name: str) -> str:
    """What the subjects begin with that an edge, or the hub, is answered at."""
    return f"_INBOX.{name}"


def answers_of(edge: str) -> str:
    """What the subjects begin with that an edge answers the hub at."""
    return f"angara.hub.{edge}.{ANSWER}"


def is_answered_at(prefix: str, reply: str) -> bool:
    """Whether a question may be answered there. Whoever asks says where; an answer to another's subject,
    or to one that JetStream listens at, would be said with the rights of who answers."""
    head, _, token = reply.rpartition(".")
    return head == prefix and _TOKEN.fullmatch(token) is not None
