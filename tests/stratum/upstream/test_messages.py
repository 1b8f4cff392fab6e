"""Tables: difficulties, heights, domains, the sharing out of extranonce2, and the log of shares under way."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.chain.coinbase import push_height
from stratum.difficulty import DIFF1
from stratum.messages import Answer
from stratum.upstream.endpoint import BadUpstream, UpstreamEndpoint, plain_host, same_domain
from stratum.upstream.extranonce_split import (
    ExtranonceNeed,
    ExtranonceSplit,
    TooLittleExtranonce,
    split_extranonce2,
)
from stratum.upstream.messages import (
    TARGET_MAX,
    BrokenUpstream,
    Reconnect,
    coinbase_height,
    parse_configured,
    parse_reconnect,
    parse_subscribed,
    parse_target,
)

COINBASE_HEAD = bytes.fromhex("0200000001" + "00" * 32 + "ffffffff" + "20")


@pytest.mark.parametrize(
    ("difficulty", "target"),
    [
        (1, DIFF1),
        (1.0, DIFF1),
        (65_536, DIFF1 >> 16),
        (3, DIFF1 // 3),
        (0.5, DIFF1 * 2),
        (2.0**-32, DIFF1 << 32),
        (2.0**-33, TARGET_MAX),
        (5e-324, TARGET_MAX),
        (DIFF1, 1),
    ],
)
def test_the_target_of_a_difficulty(difficulty: float, target: int) -> None:
    assert parse_target([difficulty]) == target


@settings(deadline=None, derandomize=True)
@given(st.floats(min_value=2.0**-31, max_value=2.0**200) | st.integers(1, 1 << 200))
def test_the_target_of_a_difficulty_is_exact(difficulty: float) -> None:
    target = parse_target([difficulty, "whatever pools say behind it"])
    assert target <= DIFF1 / Fraction(difficulty) < target + 1


@pytest.mark.parametrize(
    "height", [0, 1, 16, 17, 127, 128, 255, 256, 65_535, 840_000, 8_388_608, (1 << 31) - 1]
)
def test_the_height_of_a_coinbase(height: int) -> None:
    assert coinbase_height(COINBASE_HEAD + push_height(height) + b"\x04tail") == height


@pytest.mark.parametrize(
    "coinbase1",
    [
        b"",
        COINBASE_HEAD,
        COINBASE_HEAD + b"\x03\x40\x42",  # cut within the height
        COINBASE_HEAD + b"\x05" + bytes(5),  # no height for 200 million years
        COINBASE_HEAD + b"\x03\x40\x42\x8f",  # negative
        COINBASE_HEAD.replace(b"\xff" * 4, b"\xfe" * 4) + push_height(840_000),  # spends something
        COINBASE_HEAD[:4] + b"\x02" + COINBASE_HEAD[5:] + push_height(840_000),  # two inputs
    ],
)
def test_a_coinbase_without_a_height_is_at_0(coinbase1: bytes) -> None:
    assert coinbase_height(coinbase1) == 0


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([], Reconnect()),
        (None, Reconnect()),
        (["b.example", 3334, 5], Reconnect(host="b.example", port=3334, wait_s=5)),
        (["b.example", "3334", "5"], Reconnect(host="b.example", port=3334, wait_s=5)),
        (["", 3334], Reconnect(port=3334)),
        ([None, None, None, None], Reconnect()),
        (["", 0, 86_400], Reconnect(wait_s=60)),
        (["", 0, -5], Reconnect()),
        (["", 0, "nan"], Reconnect()),
        (["", 0, "inf"], Reconnect(wait_s=60)),
    ],
)
def test_reconnect_in_all_its_spellings(params: Any, expected: Reconnect) -> None:
    assert parse_reconnect(params) == expected


@pytest.mark.parametrize(
    ("topics", "session_id"),
    [
        ([["mining.set_difficulty", "d1"], ["mining.notify", "n1"]], "n1"),
        (["mining.notify", "n1"], "n1"),
        ([["mining.notify", 5]], None),
        ([["mining.notify", "x" * 256]], None),
        ([], None),
        (None, None),
        ("n1", None),
    ],
)
def test_which_session_a_subscription_can_resume(topics: Any, session_id: str | None) -> None:
    assert parse_subscribed([topics, "ab", 8]).session_id == session_id


@pytest.mark.parametrize(
    ("result", "mask"),
    [
        ({"version-rolling": True, "version-rolling.mask": "1fffe000"}, 0x1FFFE000),
        ({"version-rolling": True, "version-rolling.mask": "ffffffff"}, 0x1FFFE000),
        ({"version-rolling": False}, None),
        ({"version-rolling": "not supported"}, None),
        ({}, None),
        (None, None),
        (True, None),
    ],
)
def test_what_configure_granted(result: Any, mask: int | None) -> None:
    assert parse_configured(Answer(b"1", result, None)) == mask


def test_version_rolling_without_a_mask_is_nonsense() -> None:
    with pytest.raises(BrokenUpstream, match=r"version-rolling\.mask"):
        parse_configured(Answer(b"1", {"version-rolling": True}, None))


@pytest.mark.parametrize(
    ("host", "other", "expected"),
    [
        ("pool.example.com", "pool.example.com", True),
        ("pool.example.com", "POOL.example.com.", True),
        ("eu.pool.com", "us.pool.com", True),
        ("eu.pool.com", "pool.com", True),
        ("eu.pool.com", "a.us.pool.com", True),
        ("pool.com", "eu.pool.com", True),
        ("pool.co.uk", "eu.pool.co.uk", True),
        ("eu.pool.co.uk", "us.pool.co.uk", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("pool.com", "other.com", False),
        ("pool.com", "com", False),
        ("eu.pool.com", "evilpool.com", False),
        ("eu.pool.com", "pool.com.evil.org", False),
        ("pool.co.uk", "evil.co.uk", False),
        ("pool.co.uk", "co.uk", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "1.10.0.0.1", False),
        ("1.pool.com", "10.0.0.1", False),
        ("localhost", "evil.localhost", False),
        ("eu.pool.com", "us.pool.com\n", False),
        ("eu.pool.com", "us.pool.com:3333", False),
        ("eu.pool.com", "..pool.com", False),
        ("eu.pool.com", "", False),
        # Within what one owner registered, however deep.
        ("auto.sha256.pool.com", "eu.sha512.pool.com", True),
        ("eu.pool.xn--55qx5d.cn", "us.pool.xn--55qx5d.cn", True),
        ("eu.my-pool.internal", "us.my-pool.internal", True),
        # Names that anybody gets: of registries, of dynamic DNS, of clouds.
        ("mypool.duckdns.org", "eu.mypool.duckdns.org", True),
        ("mypool.duckdns.org", "evil.duckdns.org", False),
        ("eu.mypool.duckdns.org", "evil.duckdns.org", False),
        ("duckdns.org", "evil.duckdns.org", False),
        ("mypool.ddns.net", "evil.ddns.net", False),
        ("pool.github.io", "evil.github.io", False),
        ("pool.xn--55qx5d.cn", "evil.xn--55qx5d.cn", False),
        ("pool.com.br", "evil.com.br", False),
        ("pool.kawasaki.jp", "evil.kawasaki.jp", False),
        ("pool.kobe.jp", "city.kobe.jp", False),
        ("ec2-10-0-0-1.compute-1.amazonaws.com", "ec2-10-0-0-2.compute-1.amazonaws.com", False),
        ("pool.amazonaws.com", "evil.s3.amazonaws.com", False),
        # Names of a site: only its own resolver knows whose they are.
        ("pool", "evil.pool", False),
        ("pool.lan", "evil.lan", False),
        # Letters that look like others, or become them.
        ("eu.pool.com", "us.po\u043el.com", False),
        ("eu.pool.com", "us.pool\u3002com", False),
        ("eu.pool.com", "us.pool.\uff43om", False),
        # Addresses in the spellings that only a resolver knows, and a scope that ends like a name.
        ("pool.10.1", "evil.10.1", False),
        ("pool.0x0a.0x1", "evil.0x0a.0x1", False),
        ("10.0.0.5", "9.0.0.5", False),
        ("2130706433", "evil.2130706433", False),
        ("eu.pool.com", "fe80::1%us.pool.com", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
    ],
)
def test_how_far_an_upstream_may_send_us(host: str, other: str, expected: bool) -> None:
    assert same_domain(host, other) is expected


@pytest.mark.parametrize(
    "host", ["", ".", "-a.example", "a..b", "a b", "a" * 64 + ".example", "a." * 127 + "abc", "fe80::1%é"]
)
def test_what_is_no_host(host: str) -> None:
    assert plain_host(host) is None
    with pytest.raises(BadUpstream, match="neither a name nor an address"):
        UpstreamEndpoint(host=host, port=1, user="u")


@pytest.mark.parametrize(
    "fields",
    [
        {"port": 0},
        {"port": 65_536},
        {"user": ""},
        {"user": "u" * 256},
        {"password": "p" * 256},
        {"ca_file": "x"},
    ],
)
def test_what_is_no_endpoint(fields: dict[str, Any]) -> None:
    with pytest.raises(BadUpstream) as refused:
        UpstreamEndpoint(**dict[str, Any](host="pool.example", port=3333, user="u") | fields)
    assert "uuu" not in str(refused.value)
    assert "ppp" not in str(refused.value)


def test_words_are_cleaned_of_the_account_even_where_one_holds_the_other() -> None:
    endpoint = UpstreamEndpoint(host="a", port=1, user="acme.farm7", password="acme")
    assert endpoint.cleaned("acme.farm7 or acme\r\n?") == "*** or *** ?"
    harmless = UpstreamEndpoint(host="a", port=1, user="acme", password="x")
    assert harmless.cleaned("exit acme") == "exit ***"


@pytest.mark.parametrize(
    ("upstream", "filler", "prefix", "miner"),
    [
        (4, 0, 1, 3),
        (5, 0, 1, 4),
        (6, 0, 2, 4),
        (7, 0, 3, 4),
        (8, 0, 4, 4),
        (10, 0, 4, 6),
        (12, 0, 4, 8),
        (16, 4, 4, 8),
    ],
)
def test_how_extranonce2_is_shared_out(upstream: int, filler: int, prefix: int, miner: int) -> None:
    split = ExtranonceSplit(filler_bytes=filler, prefix_bytes=prefix, miner_bytes=miner)
    assert split_extranonce2(upstream, ExtranonceNeed()) == split
    assert split.upstream_bytes == upstream


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 32), st.integers(1, 4), st.integers(1, 8))
def test_every_split_gives_each_what_it_needs_and_firmware_what_it_takes(
    upstream: int, prefix: int, miner: int
) -> None:
    need = ExtranonceNeed(prefix_bytes_min=prefix, miner_bytes_min=miner)
    if upstream < prefix + miner:
        with pytest.raises(
            TooLittleExtranonce, match=f"leaves {upstream} bytes .* {prefix + miner} are needed"
        ):
            split_extranonce2(upstream, need)
        return
    split = split_extranonce2(upstream, need)
    assert split.upstream_bytes == upstream
    assert prefix <= split.prefix_bytes <= 4
    assert miner <= split.miner_bytes <= 8
    assert split.miner_bytes >= 4 or split.prefix_bytes == prefix
    assert split.filler_bytes == 0 or (split.prefix_bytes, split.miner_bytes) == (4, 8)
