"""Draws the state machines of the documents from the tables in the code: `make diagrams` does it.

Everything between two marks of docs/states.md is drawn here; the sentences around it are written by hand.
"""

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from payouts import income
from payouts.batches import batch
from pool.power.curtailment import states as power
from stratum.miners import mining_session as miners
from stratum.upstream import session as upstream

DOCUMENT = Path(__file__).parent.parent / "docs" / "states.md"
DRAWN = re.compile(r"(<!-- drawn: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
BEGINNING = "[*]"

S = TypeVar("S", bound=Enum)
T = TypeVar("T", bound=Enum)
# From, to, and what moves it (none where the table does not say).
Move = tuple[str, str, str | None]


def stepwise(table: Mapping[tuple[S, T], S], first: S) -> Iterable[Move]:
    """Of a table of state and step to state."""
    yield BEGINNING, str(first.value), None
    for (before, step), after in table.items():
        yield str(before.value), str(after.value), str(step.value)


def allowed(table: Iterable[tuple[Enum | None, Enum]]) -> Iterable[Move]:
    """Of pairs that may follow each other, in the order of the enum and not of a set."""
    order = [str(it.value) for it in type(next(after for _, after in table))]
    pairs = {(BEGINNING if it is None else str(it.value), str(after.value)) for it, after in table}
    for before in (BEGINNING, *order):
        for after in order:
            if (before, after) in pairs:
                yield before, after, None


def begun(table: Mapping[S, Iterable[S]], first: S) -> list[Move]:
    """Of a table of what may follow each, in the order of the enum."""
    return list(allowed([(None, first), *((it, after) for it, to in table.items() for after in to)]))


MACHINES: dict[str, Iterable[Move]] = {
    "session": list(stepwise(miners.TRANSITIONS, miners.State.CONNECTED)),
    "upstream": list(stepwise(upstream.TRANSITIONS, upstream.State.NEW)),
    "batch": list(allowed([(it, to) for it, after in batch.MOVES.items() for to in after])),
    "attempt": list(allowed([(it, to) for it, after in batch.ATTEMPT_MOVES.items() for to in after])),
    "income": list(allowed(list(income.MOVES))),
    "power_event": begun(power.EVENT_MOVES, power.EventState.PLANNED),
    "power_machine": begun(power.MACHINE_MOVES, power.MachineState.PENDING),
}


def diagram(moves: Iterable[Move]) -> str:
    """A Mermaid state diagram."""
    lines = (
        f"    {before} --> {after}" + ("" if step is None else f": {step}") for before, after, step in moves
    )
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def drawn(text: str) -> str:
    """The document with every diagram as the code is now. Raises KeyError for a machine that is unknown."""
    return DRAWN.sub(lambda found: found[1] + diagram(MACHINES[found[2]]) + found[3], text)


if __name__ == "__main__":
    DOCUMENT.write_text(drawn(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
