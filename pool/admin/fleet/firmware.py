"""The question what each firmware was seen to do. Must not know: sockets, terminals."""

from typing import Final

import msgspec

from pool.admin.command import Commands, Question
from pool.admin.desk import Desk, running
from stratum.miners.firmware import Firmware


class FirmwareList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class FirmwareSeen(Firmware, kw_only=True):
    """A kind, and since when its sessions are counted."""

    counted_since_at_s: int


def firmware_list(desk: Desk, it: FirmwareList) -> list[FirmwareSeen]:
    """By firmware and version as agents say them, since the pool was started; whoever is here most comes
    first. Counts of sessions, but for accepted, rejected (shares), refused, unreadable (lines)."""
    live = running(desk)
    return [
        FirmwareSeen(**msgspec.structs.asdict(kind), counted_since_at_s=live.since_s)
        for kind in live.firmware()
    ]


COMMANDS: Final[Commands] = {
    "firmware.list": Question(FirmwareList, firmware_list),
}
