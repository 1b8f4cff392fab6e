"""Who has to agree to what moves money or power, and how long that waits: [approval] of the settings.

The settings are the host's. So that they say the same to who comes without them (`--data-dir`), and so that
nobody makes them weaker in silence, the book's record of changes has them too, whenever they are others.

Must not know: which commands wait.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pool.fleet.registry_error import RegistryError
from pool.people.roles import Caller

HOUR_S: Final = 3_600
DAY_S: Final = 86_400
PEOPLE_MAX: Final = 2  # four eyes: who needs more of them asks for a second person outside of the pool
TIME_LOCK_S_MAX: Final = 30 * DAY_S
EXPIRES_S_MAX: Final = 60 * DAY_S

# What the record of changes calls it; neither is a command that somebody could give.
POLICY_SET: Final = "approval.set"
GLASS_BROKEN: Final = "approval.break-glass"
POLICY: Final = "approval"  # the subject of the first


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What moves money or power waits for a second person, or for a time; see decision 9."""

    people: Annotated[
        int,
        Meta(ge=1, le=PEOPLE_MAX, description="Who agree: 1 decides alone, 2 is four eyes"),
    ] = 1
    time_lock_s: Annotated[
        int,
        Meta(
            ge=0,
            le=TIME_LOCK_S_MAX,
            description="From the request to the change; not for an address that the books hold for 72 h",
        ),
    ] = 0
    expires_s: Annotated[
        int, Meta(ge=HOUR_S, le=EXPIRES_S_MAX, description="After it a request that is still open is none")
    ] = 7 * DAY_S

    @property
    def on(self) -> bool:
        return self.people > 1 or self.time_lock_s > 0

    @property
    def words(self) -> str:
        if not self.on:
            return "off: one person alone changes what moves money or power"
        who = "a second person agrees" if self.people > 1 else "one person decides"
        lock = f", and {self.time_lock_s} s pass" if self.time_lock_s else ""
        return f"{who}{lock}; a request ends after {self.expires_s} s"

    def check_person(self, caller: Caller) -> None:
        """Raises RegistryError for who is nobody in particular, where two persons agree: an account that
        needs no user. Who can be root may be any of the users as well, and would be both."""
        if self.people > 1 and caller.user_id is None:
            raise RegistryError(
                f"where two persons agree {caller.name} is none of them, for whoever is at the host's account"
                " may be a user too: come as a user, by an account of your own or a token (--token-file)"
            )

    def problem(self) -> str | None:
        """Why it cannot be, in words."""
        if self.time_lock_s >= self.expires_s:
            return "approval: a request would end (expires_s) before its time has come (time_lock_s)"
        return None
