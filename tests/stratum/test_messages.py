"""The codec: what a line means, what a line looks like, and that no bytes can break it."""

import json
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum import messages
from stratum.difficulty import DIFF1
from stratum.messages import (
    Answer,
    Authorize,
    BadLine,
    BadParams,
    Configure,
    Message,
    Request,
    Submit,
    Subscribe,
    SuggestDifficulty,
)

LAW = settings(deadline=None, derandomize=True)


def parsed(method: str, *params: object) -> Message:
    return messages.parse(Request(b"1", "mining." + method, list(params)))


# Reading lines


def test_a_line_with_a_method_is_a_request_and_without_one_an_answer() -> None:
    assert messages.decode(b'{"id":1,"method":"mining.ping","params":[]}') == Request(b"1", "mining.ping", [])
    assert messages.decode(b'{"id":1,"method":"mining.ping"}') == Request(b"1", "mining.ping", None)
    assert messages.decode(b'{"id":2,"result":true,"error":null}') == Answer(b"2", True, None)
    assert messages.decode(b'{"error":[21,"Stale",null]}') == Answer(b"null", None, [21, "Stale", None])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
METHODS = st.sampled_from([*messages._PARSERS, "mining.nonsense"])


@LAW
@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_message_or_a_bad_line(line: bytes) -> None:
    try:
        messages.decode(line)
    except BadLine:
        return


@LAW
@given(METHODS, JSON_VALUES, JSON_VALUES, st.booleans())
def test_params_of_any_kind_are_a_message_or_bad_params(
    method: str, raw_id: object, params: object, ascii_only: bool
) -> None:
    """Python's encoder also writes NaN, Infinity, lone surrogates and integers of any length."""
    text = json.dumps({"id": raw_id, "method": method, "params": params}, ensure_ascii=ascii_only)
    try:
        request = messages.decode(text.encode(errors="surrogatepass"))
        assert isinstance(request, Request)
        messages.parse(request)
        encoded = messages.reply(request.id, True)
    except (BadLine, BadParams):
        return
    assert msgspec.json.decode(encoded)["result"] is True, "an id that was taken can be echoed"


@LAW
@given(METHODS, st.lists(JSON_VALUES, max_size=8))
def test_lists_of_any_kind_too(method: str, params: list[object]) -> None:
    try:
        messages.parse(Request(b"1", method, params))
    except BadParams as error:
        msgspec.json.encode(str(error))


@pytest.mark.parametrize("params", [{}, "x", 7, True, 1.5])
def test_params_are_a_list_or_missing(params: object) -> None:
    with pytest.raises(BadParams, match="params must be a list"):
        messages.parse(Request(b"1", "mining.ping", params))
    messages.parse(Request(b"1", "mining.ping", None))


# Requests


@pytest.mark.parametrize(
    ("params", "subscribe"),
    [
        ([], Subscribe("", None)),
        (["cgminer/4.11.1"], Subscribe("cgminer/4.11.1", None)),
        (["cgminer/4.11.1", "00000001"], Subscribe("cgminer/4.11.1", "00000001")),
        (["bosminer", None, "stratum+tcp://pool", 3333], Subscribe("bosminer", None)),
        (["bosminer", "", "pool", "3333"], Subscribe("bosminer", None)),
        ([None, 7, {}, []], Subscribe("", None)),
    ],
)
def test_subscribe_in_every_form(params: list[object], subscribe: Subscribe) -> None:
    assert parsed("subscribe", *params) == subscribe


@pytest.mark.parametrize(
    ("password", "difficulty", "minimum"),
    [
        ("x", None, None),
        ("d=65536", 65536, None),
        ("md=1024", None, 1024),
        ("d=65536,md=1024", 65536, 1024),
        ("md=1024;d=65536", 65536, 1024),
        ("x d=0.5 stats", Fraction(1, 2), None),
        ("d=1,d=2", 2, None),
        ("d=1e6", 10**6, None),
        ("d=1E-3", Fraction(1, 1000), None),
        ("D=5,ad=5,d", None, None),
        ("d=0", None, None),
        ("d=-5", None, None),
        ("d=1/3", None, None),
        ("d=nan,md=inf", None, None),
        ("d=" + "9" * 33, None, None),
    ],
)
def test_options_in_a_password(
    password: str, difficulty: Fraction | int | None, minimum: Fraction | int | None
) -> None:
    assert parsed("authorize", "acme.c1.u1", password) == Authorize(
        "acme.c1.u1",
        None if difficulty is None else Fraction(difficulty),
        None if minimum is None else Fraction(minimum),
    )


@pytest.mark.parametrize("params", [[], [None], [7], [["acme"]], ["a" * 256], ["a\tb"], ["a\u2028b"]])
def test_a_worker_name_is_printable_text(params: list[object]) -> None:
    with pytest.raises(BadParams, match="worker name"):
        parsed("authorize", *params)


def test_configure_keeps_the_order_and_each_extension_once() -> None:
    assert parsed("configure", ["b", "version-rolling", "a", "b"]) == Configure(
        ("b", "version-rolling", "a"), 0xFFFFFFFF, None
    )
    with pytest.raises(BadParams, match="short list"):
        parsed("configure", ["x"] * 17)
    with pytest.raises(BadParams, match="extension"):
        parsed("configure", ["x", 7])


@pytest.mark.parametrize(
    ("mask", "bits"),
    [
        ("1fffe000", 0x1FFFE000),
        ("0x1FFFE000", 0x1FFFE000),
        ("c00000", 0xC00000),
        (0x1FFFE000, 0x1FFFE000),
        ("", 0),
        ("mask", 0),
        ("-1", 0),
        ("1" * 11, 0),
        (-1, 0),
        (None, 0),
        (1.5, 0),
        ([], 0),
        (True, 0),
    ],
)
def test_a_version_mask_that_is_none_has_no_bits(mask: object, bits: int) -> None:
    assert parsed("configure", ["version-rolling"], {"version-rolling.mask": mask}) == Configure(
        ("version-rolling",), bits, None
    )


@pytest.mark.parametrize(
    ("value", "difficulty"),
    [
        (1024, 1024),
        (0.1, Fraction(0.1)),
        ("0.1", Fraction(1, 10)),
        (" 512 ", 512),
        ("1e3", 1000),
        (10**300, 10**300),
        (5e-324, Fraction(5e-324)),
    ],
)
def test_a_suggestion_is_exact(value: object, difficulty: Fraction | int) -> None:
    assert parsed("suggest_difficulty", value) == SuggestDifficulty(Fraction(difficulty))


@pytest.mark.parametrize("value", [0, -1, "0", "-1", "", "x", "1/3", "nan", "inf", True, None, [1], {}])
def test_a_suggestion_is_a_positive_number(value: object) -> None:
    with pytest.raises(BadParams, match="difficulty"):
        parsed("suggest_difficulty", value)


def test_an_exponent_does_not_make_a_number_that_fills_the_memory() -> None:
    suggested = parsed("suggest_difficulty", "1e999999999")
    assert isinstance(suggested, SuggestDifficulty)
    assert suggested.difficulty < 10**1000


@pytest.mark.parametrize(
    ("target", "difficulty"),
    [(DIFF1, 1), (DIFF1 >> 16, 65536), (DIFF1 << 4, Fraction(1, 16)), (1, DIFF1), ((1 << 256) - 1, None)],
)
def test_a_suggested_target_is_the_difficulty_that_it_means(
    target: int, difficulty: Fraction | int | None
) -> None:
    expected = Fraction(DIFF1, target) if difficulty is None else Fraction(difficulty)
    assert parsed("suggest_target", f"{target:064x}") == SuggestDifficulty(expected)
    assert parsed("suggest_target", f"0x{target:x}") == SuggestDifficulty(expected)


@pytest.mark.parametrize("target", ["00" * 32, "1" + "00" * 32, "", "xyz", "-1", 5, None])
def test_a_suggested_target_is_a_target(target: object) -> None:
    with pytest.raises(BadParams, match="target"):
        parsed("suggest_target", target)


@pytest.mark.parametrize(
    ("params", "texts"),
    [
        (["w", "a1", "00", "0f", "0e"], (b"w", b"a1", b"00", b"0f", b"0e")),
        (["w", "a1", "00", 15, 14, 13], (b"w", b"a1", b"00", b"f", b"e", b"d")),
        (["w", 10, "00", "0f", "0e", None], (b"w", b"10", b"00", b"0f", b"0e")),
        (["w", "a1", 7, -1, 1.5, True], (b"w", b"a1", b"", b"", b"", b"")),
        ([None, {}, [], "", "é"], (b"", b"", b"", b"", "é".encode())),
        (["w"], (b"w", b"", b"", b"", b"")),
        ([], (b"", b"", b"", b"", b"")),
        (["w", "a1", "00", "0f", "0e", "0d", "0c"], (b"w", b"", b"", b"", b"")),
    ],
)
def test_a_submit_is_text_for_the_engine_and_what_is_none_is_empty(
    params: list[object], texts: tuple[bytes, ...]
) -> None:
    assert parsed("submit", *params) == Submit(texts)


# Writing lines


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (messages.reply(b"7", True), b'{"id":7,"result":true,"error":null}\n'),
        (messages.refusal(b'"x"', 21, "Stale"), b'{"id":"x","result":null,"error":[21,"Stale",null]}\n'),
        (
            messages.notification("client.reconnect", []),
            b'{"id":null,"method":"client.reconnect","params":[]}\n',
        ),
        (
            messages.request(1, "client.get_version", []),
            b'{"id":1,"method":"client.get_version","params":[]}\n',
        ),
        (
            messages.notify("1f", ["aa", []], clean=True),
            b'{"id":null,"method":"mining.notify","params":["1f","aa",[],true]}\n',
        ),
    ],
)
def test_lines_to_miners(line: bytes, text: bytes) -> None:
    assert line == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
@LAW
def test_a_reason_never_breaks_a_line(reason: str) -> None:
    line = messages.refusal(b"1", 20, reason)
    assert line.index(b"\n") == len(line) - 1
    assert msgspec.json.decode(line)["error"] == [20, reason, None]
