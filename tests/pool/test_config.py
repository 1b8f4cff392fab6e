"""angara.toml: what it may say, and every mistake in it: answered in words that say where, and no secret."""

import contextlib
from fractions import Fraction
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.pretty import pretty_repr
from sqlalchemy.engine import make_url

from pool.authority_key import make_authority
from pool.books.bookkeeper import IMPATIENT, BookTimes
from pool.config import SV2, BadConfig, load_config, parse_address, parse_difficulty, tables_in
from stratum.difficulty import DIFFICULTY_LOG2_MAX, DIFFICULTY_LOG2_MIN
from stratum.miners.listening.listeners import Endpoint
from stratum.sv2.authority import public_text

SECRET = "hunter2-of-the-operator"
GOOD = f"""
[pool]
network = "regtest"
data_dir = "data"
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
tag = "/Angara/"
outage_s = 60

[[node]]
name = "first"
url = "http://127.0.0.1:18443"
user = "pool"
password = "{SECRET}"

[[node]]
name = "second"
url = "https://node.example:8332"
cookie_file = ".cookie"
zmq_hashblock = "tcp://127.0.0.1:28332"

[stratum]
listen = ["127.0.0.1:3333", "[::1]:3333"]
difficulty_start = 65536
difficulty_min = 0.5
difficulty_max = 1048576
share_interval_s = 6.0

[stratum.limits]
line_bytes = 8192


"""


def write(directory: Path, text: str | bytes) -> Path:
    path = directory / "angara.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(directory: Path, text: str | bytes) -> str:
    with pytest.raises(BadConfig) as caught:
        load_config(write(directory, text))
    said = str(caught.value)
    assert SECRET not in said
    assert SECRET not in repr(caught.value)
    return said


def test_good_settings_are_taken_as_they_are_meant(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.data_dir == tmp_path / "data"
    assert config.payout_script.hex() == "0014751e76e8199196d454941c45d1b3a323f1433bd6"
    assert [(node.name, node.url) for node in config.nodes] == [
        ("first", "http://127.0.0.1:18443"),
        ("second", "https://node.example:8332"),
    ]
    assert config.nodes[1].cookie_file == tmp_path / ".cookie"
    assert config.endpoints == (Endpoint(host="127.0.0.1", port=3333), Endpoint(host="::1", port=3333))
    assert (config.vardiff.difficulty_log2_min, config.start_difficulty_log2) == (-1, 16)
    assert config.vardiff.difficulty_log2_max == 20
    assert config.database_url.endswith("/angara.db")
    assert SECRET not in repr(config), "a log line may hold it"


def test_only_who_rehearses_on_regtest_does_not_wait_for_the_hour(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, GOOD)).books == IMPATIENT
    text = GOOD.replace('"regtest"', '"main"')
    text = text.replace(
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
    )
    assert load_config(write(tmp_path, text)).books == BookTimes()


def test_no_representation_of_the_settings_has_a_secret(tmp_path: Path) -> None:
    """Not that of a database's URL either, nor of the tables as they are written."""
    book = f'[database]\nurl = "postgresql://pool:{SECRET}@127.0.0.1/book"\n'
    told = f'[messages]\nto = ["mailto://u:{SECRET}@example.com", {{url = "json://{SECRET}@127.0.0.1"}}]\n'
    path = write(tmp_path, GOOD + book + told)
    for of in (load_config(path), tables_in(path), *tables_in(path).node, tables_in(path).messages):
        assert SECRET not in repr(of) + pretty_repr(of)
    assert SECRET in load_config(path).database_url
    assert "network='regtest'" in repr(load_config(path)), "the rest is told"


def test_little_has_to_be_said(tmp_path: Path) -> None:
    text = """
        [pool]
        network = "main"
        data_dir = "d"
        payout_address = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
        [[node]]
        name = "n"
        url = "http://127.0.0.1:8332"
        cookie_file = "~/.bitcoin/.cookie"
    """
    config = load_config(write(tmp_path, text))
    assert config.nodes[0].cookie_file == Path.home() / ".bitcoin/.cookie"
    assert config.endpoints == (Endpoint(host="127.0.0.1", port=3333),), "not to the world by default"


WEB_FOR_OTHERS = "web.listen: on {} others could listen in: a certificate is needed there"


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("", None),
        ('[web]\nlisten = "127.0.0.1:3380"', Endpoint(host="127.0.0.1", port=3380)),
        ('[web]\nlisten = "localhost:0"', Endpoint(host="localhost", port=0)),
        ('[web]\nlisten = "[::1]:3380"', Endpoint(host="::1", port=3380)),
        ('[web]\nlisten = "192.0.2.1:3380"', WEB_FOR_OTHERS.format("192.0.2.1")),
        ('[web]\nlisten = "[::]:3380"', WEB_FOR_OTHERS.format("::")),
        ('[web]\nlisten = "pool.example:3380"', WEB_FOR_OTHERS.format("pool.example")),
        ('[web]\nlisten = "127.0.0.1:3380"\nkey = "k"', "web.key: is not used without a certificate"),
        ('[web]\nlisten = "3380"', "web.listen: '3380' is not HOST:PORT"),
        ("[web]", "web.listen: has to be said"),
    ],
)
def test_http_is_for_this_host_alone_or_under_tls(
    text: str, taken: Endpoint | str | None, tmp_path: Path
) -> None:
    if isinstance(taken, str):
        assert taken in refusal(tmp_path, GOOD + text)
    else:
        assert load_config(write(tmp_path, GOOD + text)).web == taken


def test_http_for_others_has_a_certificate(tmp_path: Path) -> None:
    text = GOOD + '[web]\nlisten = "192.0.2.1:443"\ncertificate = "web.pem"\nkey = "web.key"\n'
    assert load_config(write(tmp_path, text)).web == Endpoint(
        host="192.0.2.1",
        port=443,
        certificate=str(tmp_path / "web.pem"),
        key=str(tmp_path / "web.key"),
    )


def test_tls_and_balancers(tmp_path: Path) -> None:
    more = """
        listen = []
        listen_tls = ["192.0.2.1:3443"]
        certificate = "pool.pem"
        key = "/etc/pool.key"
        proxy_protocol_from = ["10.0.0.1", "2001:db8::/32"]
    """
    listen = 'listen = ["127.0.0.1:3333", "[::1]:3333"]'
    config = load_config(write(tmp_path, GOOD.replace(listen, more)))
    assert config.endpoints == (
        Endpoint(
            host="192.0.2.1",
            port=3443,
            certificate=str(tmp_path / "pool.pem"),
            key="/etc/pool.key",
            proxies=(ip_network("10.0.0.1/32"), ip_network("2001:db8::/32")),
        ),
    )


def test_stratum_v2_beside_v1(tmp_path: Path) -> None:
    public = make_authority(tmp_path / "authority")
    table = """[stratum.sv2]
        listen = ["192.0.2.1:3336"]
        authority_file = "authority"
        certificate_hours = 2
        """
    config = load_config(write(tmp_path, GOOD + table))
    assert [(it.port, it.dialect) for it in config.endpoints][2:] == [(3336, SV2)]
    assert config.sv2 is not None
    assert config.sv2.validity_s == 7_200
    assert public_text(config.sv2.authority.x_only) == public
    assert (tmp_path / "authority").read_text().strip() not in repr(config)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('listen = ["h:1"]', "needs an authority_file"),
        ('authority_file = "authority"', "is not used without listen"),
        ('listen = ["h"]\nauthority_file = "authority"', "stratum.sv2.listen: 'h' is not"),
        ('listen = ["h:1"]\nauthority_file = "none"', "stratum.sv2.authority_file: "),
        ('listen = ["h:1"]\nauthority_file = "authority"\ncertificate_hours = 0', "is not within 1 to 8760"),
    ],
)
def test_mistakes_about_stratum_v2_are_answered_in_words(tmp_path: Path, table: str, words: str) -> None:
    make_authority(tmp_path / "authority")
    assert words in refusal(tmp_path, f"{GOOD}[stratum.sv2]\n{table}\n")


def test_the_password_of_the_database_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss/word:?\n")
    database = '[database]\nurl = "postgresql://angara@db/angara"\npassword_file = "secret"\n'
    url = make_url(load_config(write(tmp_path, GOOD + database)).database_url)
    assert (url.username, url.password, url.host, url.database) == ("angara", "p@ss/word:?", "db", "angara")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "password_file needs a url, postgresql://USER@HOST/NAME"),
        ("sqlite:///angara.db", "password_file needs a url, postgresql://USER@HOST/NAME"),
        (f"{SECRET}@db", "password_file needs a url, postgresql://USER@HOST/NAME"),
        ("postgresql://angara@db/angara", "database: cannot read the password_file"),
        (f"postgresql://angara:{SECRET}@db/angara", "give the password in url or in password_file, not both"),
    ],
)
def test_a_file_for_the_password_that_cannot_be_is_refused_in_words(
    tmp_path: Path, url: str | None, words: str
) -> None:
    named = "" if url is None else f'url = "{url}"\n'
    with pytest.raises(BadConfig) as error:
        load_config(write(tmp_path, f'{GOOD}[database]\n{named}password_file = "missing"\n'))
    assert words in str(error.value)
    assert SECRET not in str(error.value)


def test_password_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    config = load_config(write(tmp_path, GOOD.replace(f'password = "{SECRET}"', 'password_file = "secret"')))
    assert config.nodes[0].password == SECRET


MISTAKES = [
    # what is said, what is written instead of it, and the words
    ('network = "regtest"', 'network = "mainnet"', "pool.network: 'mainnet' is unknown, there are: main"),
    ('network = "regtest"', "network = 1", "pool.network: is to be "),
    ('network = "regtest"', "", "pool.network: has to be said"),
    ('data_dir = "data"', 'data_dir = ""', "pool.data_dir: '' is not a path"),
    ('data_dir = "data"', 'data_dir = "a\\u0000b"', "pool.data_dir"),
    ('data_dir = "data"', 'data_dir = "~nobody-of-this-name/x"', "no such home directory"),
    ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "nonsense", "pool.payout_address"),
    ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "", "pool.payout_address"),
    (
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "pool.payout_address",
    ),
    ('tag = "/Angara/"', f'tag = "{"x" * 60}"', "pool.tag: at most"),
    ('tag = "/Angara/"', 'tag = "ангара"', "pool.tag"),
    ('tag = "/Angara/"', 'tag = "a\\nb"', "pool.tag"),
    ("outage_s = 60", "outage_s = 0", "pool.outage_s: 0 is not within 1 to 86400"),
    ("outage_s = 60", "outage_s = nan", "pool.outage_s: nan is not within 1 to 86400"),
    ("outage_s = 60", "outage_s = inf", "pool.outage_s: inf is not within 1 to 86400"),
    ("outage_s = 60", 'outage_s = "60"', "pool.outage_s: is to be "),
    ("outage_s = 60", "outages = 60", "pool.outages: there is no such setting"),
    ("[pool]", "[pools]", "pools: there is no such setting"),
    ("[[node]]", "[node]", "is not TOML"),
    ('name = "second"', 'name = "first"', "two nodes have the same name"),
    ('url = "http://127.0.0.1:18443"', 'url = "127.0.0.1:18443"', "node first: the url is not"),
    ('url = "http://127.0.0.1:18443"', 'url = "http://"', "node first: the url is not"),
    ('url = "http://127.0.0.1:18443"', 'url = "http://h:99999"', "node first: the url is not"),
    ('url = "http://127.0.0.1:18443"', f'url = "http://u:{SECRET}@h:1"', "settings of their own"),
    ('url = "http://127.0.0.1:18443"', f'url = "http://{SECRET}@["', "node first: "),
    ('user = "pool"', "", "give a cookie_file, or user and password"),
    (f'password = "{SECRET}"', "", "give a cookie_file, or user and password"),
    (f'password = "{SECRET}"', 'password_file = "missing"', "cannot read the password_file"),
    (f'password = "{SECRET}"', 'password_file = "."', "cannot read the password_file"),
    ('user = "pool"', 'password_file = "x"', "give password or password_file, not both"),
    ('user = "pool"', 'user = "pool"\ncookie_file = "x"', "give a cookie_file, or user and password"),
    (f'password = "{SECRET}"', "password = 12345", "node[0].password: is to be "),
    (f'password = "{SECRET}"', f"password = {SECRET}", "is not TOML"),
    (f'password = "{SECRET}"', f'passwort = "{SECRET}"', "node[0].passwort: there is no such setting"),
    (f'password = "{SECRET}"', f'password = "{SECRET}', "is not TOML"),
    ('listen = ["127.0.0.1:3333", "[::1]:3333"]', "listen = []", "stratum.listen: nothing to listen on"),
    ('listen = ["127.0.0.1:3333", "[::1]:3333"]', 'listen = "127.0.0.1:3333"', "stratum.listen: is to be "),
    ('"127.0.0.1:3333"', '"127.0.0.1"', "stratum.listen: '127.0.0.1' is not HOST:PORT"),
    ('"127.0.0.1:3333"', '"127.0.0.1:99999"', "is not HOST:PORT"),
    ('"127.0.0.1:3333"', '":3333"', "is not HOST:PORT"),
    ("[stratum]", '[stratum]\nlisten_tls = ["h:1"]', "stratum.listen_tls: a certificate is needed"),
    ("[stratum]", '[stratum]\nlisten_tls = ["h"]\ncertificate = "c"', "stratum.listen_tls: 'h' is not"),
    ("[stratum]", '[stratum]\ncertificate = "c"', "is not used without listen_tls"),
    ("[stratum]", '[stratum]\nproxy_protocol_from = ["10.0.0.1/8"]', "stratum.proxy_protocol_from"),
    ("[stratum]", '[stratum]\nproxy_protocol_from = ["balancer"]', "stratum.proxy_protocol_from"),
    (
        "difficulty_start = 65536",
        "difficulty_start = 65537",
        "stratum.difficulty_start: 65537 is not a power",
    ),
    ("difficulty_start = 65536", "difficulty_start = 0", "stratum.difficulty_start"),
    ("difficulty_start = 65536", "difficulty_start = -2", "stratum.difficulty_start"),
    ("difficulty_start = 65536", "difficulty_start = nan", "stratum.difficulty_start"),
    ("difficulty_start = 65536", "difficulty_start = true", "stratum.difficulty_start: is to be a number"),
    ("difficulty_start = 65536", f"difficulty_start = {'9' * 18}", "stratum.difficulty_start"),
    ("difficulty_min = 0.5", "difficulty_min = 131072", "difficulty_min <= difficulty_start"),
    ("difficulty_max = 1048576", "difficulty_max = 2", "difficulty_min <= difficulty_start"),
    (
        "share_interval_s = 6.0",
        "share_interval_s = 0.1",
        "stratum.share_interval_s: 0.1 is not within 2 to 60",
    ),
    ("share_interval_s = 6.0", "extranonce2_bytes = 9", "stratum.extranonce2_bytes: 9 is not within 4 to 8"),
    ("share_interval_s = 6.0", "move_interval_s = -0.5", "move_interval_s: -0.5 is not within 0 to 86400"),
    ("line_bytes = 8192", "line_bytes = 10", "stratum.limits.line_bytes: 10 is not within 512 to 1048576"),
    ("line_bytes = 8192", "out_bytes = 1", "stratum.limits.out_bytes: 1 is not within 4096 to 16777216"),
    ("line_bytes = 8192", "subscribe_s = -1", "stratum.limits.subscribe_s: -1 is not within 1 to 86400"),
    ("line_bytes = 8192", "sessions = 0", "stratum.limits.sessions: 0 is not within 1 to 1048576"),
    ("line_bytes = 8192", f"sessions = {'9' * 18}", "sessions: 999999999999999999 is not within 1 to"),
    ("line_bytes = 8192", f"sessions = {'9' * 400}", "stratum.limits.sessions"),
    ("line_bytes = 8192", f"sessions = {'9' * 5_000}", "is not TOML"),
    ("line_bytes = 8192", "sessions = 1e9", "stratum.limits.sessions: is to be a whole number"),
]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("minimum_sat = -1", "payouts.minimum_sat: -1 is not within 0 to 100000000"),
        ("fee_rate_sat_vb = 0", "payouts.fee_rate_sat_vb: 0 is not within 1 to 10000"),
        ("addresses = 100_001", "payouts.addresses: 100001 is not within 1 to 100000"),
        ("addresses = 1.5", "payouts.addresses: is to be "),
        ('change_descriptor = ""', "of length >= 1 - at `$.payouts.change_descriptor`"),
        (f'change_descriptor = "{SECRET * 200}"', "of length <= 4096 - at `$.payouts.change_descriptor`"),
    ],
)
def test_mistakes_about_payouts_are_answered_in_words(tmp_path: Path, setting: str, words: str) -> None:
    assert words in refusal(tmp_path, f'{GOOD}\n[payouts]\ndescriptor = "wpkh(x)"\n{setting}\n')


@pytest.mark.parametrize(("good", "bad", "words"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistake_is_answered_in_words(good: str, bad: str, words: str, tmp_path: Path) -> None:
    assert good in GOOD
    assert words in refusal(tmp_path, GOOD.replace(good, bad, 1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "pool: has to be said"),
        (b"\xff\xfe", "is not TOML"),
        (b"[pool", "is not TOML"),
        (b"a = " + b"[" * 100_000, "is not TOML"),
        (b"# " + b"x" * (1 << 20), "is larger than"),
        (GOOD.split("[[node]]")[0].encode(), "node: has to be said"),
        (("node = []\n" + GOOD.split("[[node]]")[0]).encode(), "at least one [[node]] is needed"),
    ],
)
def test_file_that_holds_no_settings_is_answered_in_words(text: bytes, words: str, tmp_path: Path) -> None:
    assert words in refusal(tmp_path, text)


def test_file_that_cannot_be_read_is_answered_in_words(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"cannot read .*: No such file"):
        load_config(tmp_path / "missing.toml")
    with pytest.raises(BadConfig, match=r"cannot read .*: Is a directory"):
        load_config(tmp_path)


def test_half_a_file_never_gives_more_than_words(tmp_path: Path) -> None:
    for cut in range(0, len(GOOD), 7):
        with contextlib.suppress(BadConfig):
            load_config(write(tmp_path, GOOD[:cut]))


# Difficulties and addresses, from files and from the command line


@pytest.mark.parametrize(
    ("text", "log2"),
    [
        ("1", 0),
        ("65536", 16),
        ("65536.0", 16),
        ("0.5", -1),
        ("2^-32", -32),
        ("2^63", 63),
        ("2^0", 0),
        ("1e0", 0),
    ],
)
def test_difficulty_as_text(text: str, log2: int) -> None:
    assert parse_difficulty(text, "d") == log2


@settings(derandomize=True, deadline=None)
@given(st.integers(DIFFICULTY_LOG2_MIN, DIFFICULTY_LOG2_MAX))
def test_every_difficulty_has_three_ways_to_be_said(log2: int) -> None:
    assert parse_difficulty(f"2^{log2}", "d") == log2
    assert parse_difficulty(2.0**log2, "d") == log2
    assert parse_difficulty(str(float(Fraction(2) ** log2)), "d") == log2


@pytest.mark.parametrize(
    "text",
    ["", "x", "2^", "2^x", "3^2", "3", "0", "-1", "2^64", "2^-33", "2^99999", "2^-99999", "1e999", "nan"],
)
def test_what_is_no_difficulty_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadConfig, match="--difficulty"):
        parse_difficulty(text, "--difficulty")


@pytest.mark.parametrize("text", ["9" * 5_000, "2^" + "9" * 5_000], ids=["digits", "exponent"])
def test_nonsense_of_any_length_is_refused_at_once(text: str) -> None:
    with pytest.raises(BadConfig, match="--difficulty"):
        parse_difficulty(text, "--difficulty")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("pool.example:65535", ("pool.example", 65_535)),
        ("[::1]:3333", ("::1", 3333)),
    ],
)
def test_address_as_text(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "a") == address


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_an_address_or_refused_in_words(text: str) -> None:
    for candidate in (text, f"host:{text}", f"{text}:1"):
        try:
            host, port = parse_address(candidate, "--stratum")
        except BadConfig:
            continue
        assert host
        assert 0 <= port <= 65_535
