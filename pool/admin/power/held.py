"""Which machines are held off now, or are being resumed, as those say who hold them.

Must not know: why.
"""

from typing import Final

from pool.admin.command import Commands, Question
from pool.admin.desk import Desk, running
from pool.admin.pages import Page, Paged, page_of
from pool.power.control.runner import HeldView


class HeldList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


def held_list(desk: Desk, it: HeldList) -> Page[HeldView]:
    """Who was told to pause and when that ends by itself, and who is told to resume and does not mine yet."""
    rows = sorted(running(desk).held_machines(), key=lambda row: (row.machine, row.address))
    return page_of(it, rows, lambda row: (str(row.machine), row.address))


COMMANDS: Final[Commands] = {"held.list": Question(HeldList, held_list)}
