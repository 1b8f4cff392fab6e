"""The bound on how deep JSON may be nested is ours, and the same on every interpreter."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum import messages
from stratum.json_depth import DEPTH_MAX, too_deep
from stratum.messages import BadLine

LEAVES = st.none() | st.integers() | st.text(st.sampled_from('[]{}"\\ab'), max_size=8)
LEVELS = st.recursive(
    LEAVES,
    lambda it: st.lists(it, max_size=3) | st.dictionaries(st.text('[{"\\', max_size=3), it, max_size=3),
)


def depth_of(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_of, inner), default=0)


@given(LEVELS, st.integers(0, 2 * DEPTH_MAX), st.booleans())
@settings(deadline=None)
def test_text_is_too_deep_from_one_level_beyond_the_bound(value: Any, wrapped: int, in_lists: bool) -> None:
    for _ in range(wrapped):
        value = [value, "["] if in_lists else {"]": value, '"': []}
    text = json.dumps(value, ensure_ascii=False).encode()
    assert too_deep(text) == (depth_of(value) > DEPTH_MAX)


@pytest.mark.parametrize("depth", [DEPTH_MAX - 1, DEPTH_MAX])
@pytest.mark.parametrize("where", ["id", "params", "unknown"])
def test_a_line_is_a_message_up_to_the_bound_and_none_beyond(depth: int, where: str) -> None:
    line = b'{"method":"x","%b":%b%b}' % (where.encode(), b"[" * depth, b"]" * depth)
    if depth < DEPTH_MAX:
        assert isinstance(messages.decode(line), messages.Request)
    else:
        with pytest.raises(BadLine, match="nested too deeply"):
            messages.decode(line)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'[{"a":' * 50_000,
        b'["' + b"[" * 99 + b'",' + b"[" * 100_000,
        b'["\\"",' * 1_000,
        b"[1," * 100 + b'"' + b"]" * 100,  # a string that never ends
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_never_ends_is_too_deep(text: bytes) -> None:
    assert too_deep(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"[]," * 10_000 + b"[]]",
        b'["' + b"[" * 10_000 + b'"]',
        b'["\\"' + b"[" * 10_000 + b'"]',
        b'["\\\\",' + b'"[[",' * 10_000 + b"0]",
        b"]" * 10_000,
        b"",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_only_wide_is_not_deep(text: bytes) -> None:
    assert not too_deep(text)
