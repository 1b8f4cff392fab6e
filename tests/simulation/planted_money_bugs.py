"""Bugs that settlements and payouts could have, each to be put into production code; and what finds each in a
world of money."""

from collections.abc import Callable
from typing import Final

import pytest

from payouts import accrual
from payouts.accrual import Carry
from payouts.batches import steps
from payouts.batches.rows import Act

AUDIT: Final = "the audit finds"  # `angara ledger verify`


def carry_nothing(patch: pytest.MonkeyPatch) -> None:
    """What is below a satoshi is dropped with each settlement."""
    patch.setattr(accrual, "carry_of", lambda *_: Carry())


def pay_whoever_was_drafted(patch: pytest.MonkeyPatch) -> None:
    """A draft is given as it is, whatever became of its payees since."""
    patch.setattr(steps, "outdated", lambda *_: None)


def take_one_person_for_two(patch: pytest.MonkeyPatch) -> None:
    """Whoever drafted or proposed it says yes as well."""
    patch.setattr(Act, "is_alone_beside", lambda *_: False)


PLANTED: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    it.__name__: it for it in (carry_nothing, pay_whoever_was_drafted, take_one_person_for_two)
}
VERDICTS: Final = {
    "carry_nothing": {"work is not credited", AUDIT},
    "pay_whoever_was_drafted": {
        "a batch is given that pays no address in force",
        "a batch is given that pays who is suspended",
    },
    "take_one_person_for_two": {"a batch is given that one person made", AUDIT},
}
