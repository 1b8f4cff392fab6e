"""What is wrong with power: places that draw more than their limits, and meters that cannot be right.

As `pool.messages.conditions`. A limit of a site that is exceeded is told of the site, whichever of its
containers draws it. Must not know: clocks, what was told, whom, and how watts are reckoned.
"""

from collections.abc import Collection, Iterator
from typing import Final

from pool.messages.conditions import Finding
from pool.messages.look import Look
from pool.messages.message import plain

LIMIT_LOOKS: Final = 2  # machines that are told to draw less take a minute
LIMIT_ENDS_PERCENT: Final = 98  # of the limit: an average of five minutes goes up and down by a percent
METER_LOOKS: Final = 5  # a gateway that is restarted


def power_conditions(look: Look, raised: Collection[str]) -> list[Finding]:
    """Everything that can be judged; nothing where no limits and no meters are."""
    return [*_limits(look, raised), *_meters(look)]


def _limits(look: Look, raised: Collection[str]) -> Iterator[Finding]:
    for it in look.power:
        subject = f"{it.kind}/{plain(it.name)}"
        ends = f"over-power-limit:{subject}" in raised
        most = it.limit_watts * LIMIT_ENDS_PERCENT // 100 if ends else it.limit_watts
        yield Finding(
            kind="over-power-limit",
            subject=subject,
            name=plain(it.name),
            holds=it.watts > most,
            words=f"{plain(it.name)}: {it.watts / 1000:.1f} kW by {it.basis}, and"
            f" {it.limit_watts / 1000:.1f} kW are allowed",
            raise_looks=LIMIT_LOOKS,
            clear_looks=1,
        )


def _meters(look: Look) -> Iterator[Finding]:
    for it in look.meters:
        yield Finding(
            kind="meter-wrong",
            subject=f"meter/{plain(it.name)}",
            name=plain(it.name),
            holds=it.wrong is not None,
            words=f"{plain(it.name)}: "
            + (
                f"{it.wrong}; meanwhile what accepted work says counts"
                if it.wrong is not None
                else "it reads"
            ),
            raise_looks=METER_LOOKS,
            clear_looks=2,
        )
