"""A look at the curtailment of a smaller site: `python -m bench.power MACHINES`, with 2 % liars. Not kept."""

import sys

import msgspec

from bench.curtailed_site import Size
from bench.parts import power


def main(machines: int) -> None:
    few = max(1, machines // 200)
    size = Size(
        machines=machines,
        liars=max(1, machines // 50),
        refusers=few,
        late=2 * few,
        sleepers=few,
        before_s=60,
        hold_s=60,
    )
    found = msgspec.json.decode(msgspec.json.encode(power.run(size)))
    print("\n".join(power.section(found).lines))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
