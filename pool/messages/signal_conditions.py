"""What is wrong with signals, which ask for curtailment: as `pool.messages.conditions`.

Must not know: clocks, what was told, whom.
"""

from collections.abc import Iterator
from typing import Final

from pool.messages.conditions import LOOK_S, Finding
from pool.messages.look import Look
from pool.messages.message import WORDS_CHARS_MAX, plain

REFUSED_S: Final = 10 * LOOK_S  # whoever is refused again and again is one message


def signal_conditions(look: Look) -> Iterator[Finding]:
    """Everything that can be judged; nothing of a pool that listens to no signal."""
    for it in look.signals:
        name = plain(it.name)
        yield Finding(
            kind="signal-silent",
            subject=f"signal/{name}",
            name=name,
            holds=it.silent_s > 0,
            words=f"{name}: nothing right was heard of it for {it.silent_s // 60} min; what it has asked for"
            " ends at its own time, and nothing new is asked for"
            if it.silent_s
            else f"{name} is heard of",
            raise_looks=1,
            clear_looks=1,
        )
        recent = it.refused_age_s is not None and it.refused_age_s < REFUSED_S
        yield Finding(
            kind="signal-refused",
            subject=f"signal/{name}",
            name=name,
            holds=recent and not it.silent_s,
            words=f"{name}: {plain(it.refused, WORDS_CHARS_MAX)}" if recent else f"{name} is taken",
            raise_looks=1,
            clear_looks=1,
        )
