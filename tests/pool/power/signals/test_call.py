"""A call is whole, or it is none."""

from typing import Any

import msgspec
import pytest

from pool.power.signals.call import BadCall, Call, Called, called

GOOD: dict[str, Any] = {
    "reference": "grid-0412",
    "site": "north",
    "target": "limit",
    "limit_kw": 1500,
    "from": "2026-11-27T16:00:00Z",
    "until": "2026-11-27T19:30:00+01:00",
    "ramp_s": 300,
}


def of(**changed: Any) -> Called:
    fields = {name: it for name, it in (GOOD | changed).items() if it is not None}
    return called(msgspec.convert(fields, Call))


def test_a_call_is_in_the_books_units() -> None:
    assert of() == Called(
        reference="grid-0412",
        site="north",
        target="limit",
        target_value=1_500_000,
        from_s=1_795_795_200,
        until_s=1_795_795_200 + 9_000,
        ramp_s=300,
    )
    assert of(target="share", limit_kw=None, percent=40).target_value == 4_000
    assert of(target="everything", limit_kw=None).target_value is None


@pytest.mark.parametrize("missing", ["reference", "site", "target", "from", "until", "ramp_s"])
def test_every_line_is_needed(missing: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=missing):
        of(**{missing: None})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"limit_kw": None}, "limit_kw is for target = limit, which needs it"),
        ({"target": "everything"}, "limit_kw is for target = limit"),
        ({"target": "share", "limit_kw": None}, "percent is for target = share, which needs it"),
        ({"percent": 40}, "percent is for target = share"),
        ({"until": "2026-11-27T16:00:00Z"}, "until is not later than from"),
    ],
)
def test_what_does_not_hold_together_is_told_in_words(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(BadCall, match=f"^grid-0412: {words}"):
        of(**changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"reference": ""},
        {"reference": "a b"},
        {"reference": "<b>"},
        {"reference": "x" * 97},
        {"target": "break_even"},  # what pays is known here, and not elsewhere
        {"limit_kw": -1},
        {"limit_kw": 1500.5},
        {"limit_kw": 1 << 60},
        {"ramp_s": -1},
        {"ramp_s": 86_400},
        {"from": "2026-11-27T16:00:00"},  # of no time zone
        {"until": 1_795_795_200},
        {"mode": "hard"},
    ],
)
def test_what_is_no_call_is_none(changed: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        of(**changed)
