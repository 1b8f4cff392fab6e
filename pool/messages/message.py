"""A message: what it is about, how bad that is, and words that nobody else had a hand in.

Tenants, machines, upstreams and whoever types a name chose some of what a message says. Mail readers and
chats make links, mentions and styles of it: so what others chose is bounded, and of its characters only those
stay that mean nothing to any of them.

Must not know: what is worth telling, and how it is sent.
"""

import enum
import hashlib
import re
from functools import lru_cache
from typing import Final

import msgspec

NAME_CHARS_MAX: Final = 64  # of one name: a machine's is 63 at most where firmware cuts it
WORDS_CHARS_MAX: Final = 160  # of a reason that a node or an upstream gave
PLAIN_NAMES: Final = 4096  # remembered: a pool's containers, places and nodes are asked for every minute
# What is replaced is all but letters, digits and these: no @ (mentions), no <> (markup, links), no *`~|[]
# (styles), no line ends.
HARMFUL: Final = re.compile(r"[^\w .+/:,=()'-]")


class Severity(enum.IntEnum):
    """How bad it is. INFO: good to know; WARNING: today; CRITICAL: now, it costs money or somebody stole."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3


class Happened(enum.Enum):
    """What is told of it."""

    RAISED = "raised"
    REMINDER = "reminder"
    RECOVERED = "recovered"
    EVENT = "event"  # over as it is told: a block, a change
    TEST = "test"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `subjects` are what it is about, each as silences name it."""

    kind: str
    happened: Happened
    severity: Severity
    subjects: tuple[str, ...]
    title: str
    text: str  # lines
    at_s: int

    @property
    def id(self) -> str:
        """The same for the same message whenever it is sent: who gets it twice can tell."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:32]


@lru_cache(PLAIN_NAMES)
def plain(text: str, chars_max: int = NAME_CHARS_MAX) -> str:
    """What somebody else chose, without what a mail reader or a chat would make something of."""
    shown = HARMFUL.sub("?", text[: chars_max + 1])
    return shown if len(shown) <= chars_max else f"{shown[: chars_max - 3]}..."
