"""How long an event lasts at least, and at most: `least_minutes` and `longest_hours` of [power].

Whoever asks for one, by whichever door, is held to them when he asks for it, and when he gives it another
end. One that goes on keeps what it was given; to end it before its time is everybody's who may. Must not
know: who asks.
"""

from typing import Final

import msgspec

LEAST_S: Final = 600  # a machine that is paused for less costs more in starts than it saves
LONGEST_S: Final = 7 * 86_400  # by then somebody has looked
USUAL_S: Final = 86_400  # where nobody said until when: a day later somebody has looked


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """In seconds."""

    least_s: int = LEAST_S
    longest_s: int = LONGEST_S

    @property
    def usual_s(self) -> int:
        """Of an event of which nobody says when it ends."""
        return max(self.least_s, min(USUAL_S, self.longest_s))

    def check(self, from_s: int, until_s: int) -> None:
        """Raises ValueError."""
        if not from_s + self.least_s <= until_s <= from_s + self.longest_s:
            least, longest = _words(self.least_s), _words(self.longest_s)
            raise ValueError(
                f"an event lasts for {least} to {longest} (power.least_minutes and power.longest_hours of the"
                " settings)"
            )


USUAL: Final = Durations()


def _words(seconds: int) -> str:
    for unit_s, name in ((86_400, "days"), (3_600, "h")):
        if seconds >= 2 * unit_s and seconds % unit_s == 0:
            return f"{seconds // unit_s} {name}"
    return f"{seconds // 60} min"
