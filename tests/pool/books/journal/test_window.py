"""What the books take at a time can be cut anywhere: no row twice, none left out, and no step too long."""

import pytest

from pool.books.journal.window import MACHINE_WEIGHT, Window, window_of
from pool.journal.frames import Place
from pool.journal.records import Batch, Machine
from tests.stages.journal import NOW_S, tally

MACHINES = range(1, 8)


def window() -> Window:
    """Seven new machines, each with a share in two minutes."""
    named = [
        Machine(
            number=it, tenant_id=1, tenant="acme", container_id=1, container="c01", unit=f"u{it}", agent=None
        )
        for it in MACHINES
    ]
    shares = b"".join(tally(it, 1) for it in MACHINES)
    batches = [
        (
            Place(1),
            Batch(moment_s=NOW_S, accepted=7, tallies=shares, machines=tuple(named)),
        ),
        (Place(2), Batch(moment_s=NOW_S + 60, accepted=14, tallies=shares)),
    ]
    return window_of(batches, last=Place(), accepted=0)


@pytest.mark.parametrize("most", range(1, 60, 4))
def test_steps_of_a_window_have_each_row_once_and_are_as_much_work_as_they_may_be(most: int) -> None:
    whole, done = window(), 0
    taken: list[tuple[int, int]] = []  # a minute and a worker; 0: the machine's own row
    while done < whole.rows:
        parts = list(whole.cut(done, most))
        machines = sum(len(it.machines) for it in parts)
        rows = sum(len(it) for it in parts)
        for part in parts:
            taken += [(0, it.number) for it in part.machines]
            if part.tallies is not None:
                taken += [(part.minute, it) for it in part.tallies["worker"].tolist()]
        done += rows
        work = rows - machines + machines * MACHINE_WEIGHT
        assert rows >= 1
        assert work < most + MACHINE_WEIGHT, "the last row may be too much"
        assert work >= most or done == whole.rows
    minutes = (0, NOW_S // 60, NOW_S // 60 + 1)
    assert taken == [(minute, worker) for minute in minutes for worker in MACHINES]
