"""What an edge may be called: a name in the books, in the subjects of NATS, and of directories.

Must not know: edges.
"""

import re
from typing import Final

HUB: Final = "hub"  # its name where edges have theirs: no edge has it
NAME_CHARS_MAX: Final = 32
NAME_WORDS: Final = f"small letters, digits and hyphens, at most {NAME_CHARS_MAX}, and not {HUB!r}"
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def is_edge_name(name: str) -> bool:
    """Whether an edge may have it: small letters, digits and hyphens, as a host's."""
    return len(name) <= NAME_CHARS_MAX and _NAME.fullmatch(name) is not None and name != HUB
