"""The operator's settings: one TOML file, typed, refused in words when something is wrong.

Invariant: a `PoolConfig` that `load_config` returned is complete and consistent; only what needs the
network (nodes, listening addresses) can still fail. Secrets never appear in an error or a repr.
"""

import grp
from fractions import Fraction
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import msgspec

from pool.authority_key import read_authority
from pool.books.bookkeeper import IMPATIENT, BookTimes
from pool.chain.addresses import BadAddress, script_for
from pool.chain.coinbase import TAG_BYTES_MAX
from pool.chain.nodes import CHAINS, NodeConfig
from pool.data_dir import database_url
from pool.database_url import read_url
from pool.messages.settings import MessageSettings, message_settings
from pool.power.control.settings import ControlSettings, control_settings
from pool.power.curtailment.durations import USUAL, Durations
from pool.power.signals.settings import SignalSettings, SignalsTable, signal_settings
from pool.requests.policy import Approval
from pool.settings_file import BadConfig as BadConfig
from pool.settings_file import path_in, read_settings
from pool.settings_mistakes import in_words
from pool.settings_tables import (
    AdminTable,
    DatabaseTable,
    File,
    NatsTable,
    NodeTable,
    PowerTable,
    StratumTable,
    Sv2Table,
    WebTable,
)
from pool.treasury.settings import PayoutSettings
from stratum.difficulty import DIFFICULTY_LOG2_MAX, DIFFICULTY_LOG2_MIN
from stratum.miners.listening.listeners import Endpoint, Network, is_this_host
from stratum.miners.liveness import SessionLimits
from stratum.miners.switchboard import BoardLimits
from stratum.miners.turns.connection_limits import ConnectionBounds
from stratum.miners.vardiff import VardiffPolicy
from stratum.sv2.secp256k1 import KeyPair
from stratum.upstream.failover import UpstreamSettings

_EXPONENT_MAX: Final = 1_000  # beyond any difficulty, and still quick to compute
SV2: Final = "sv2"  # what is spoken at an endpoint
EXTRANONCE1_BYTES: Final = 4  # 2^32 sessions a boot before one is used again


class NatsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How NATS servers are reached, and the file of the key that is shown to them."""

    urls: tuple[str, ...]
    key_file: Path
    authorities: Path | None


class SiteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Of an edge at a site."""

    name: str
    nats: NatsSettings
    alone_hours: int
    second_journal: Path | None = None


class Sv2Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The key that certifies servers of Stratum V2, and for how long it does."""

    authority: KeyPair
    validity_s: int


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, checked and in the types that the parts take. `site` is set for an edge, `hub` for a hub."""

    network: str
    data_dir: Path
    payout_script: bytes
    tag: str
    outage_s: float
    nodes: tuple[NodeConfig, ...]
    endpoints: tuple[Endpoint, ...]
    web: Endpoint | None = None  # what the pool answers over HTTP to whoever is not a miner
    start_difficulty_log2: int
    vardiff: VardiffPolicy
    extranonce2_bytes: int
    processes: int = 1
    move_interval_s: float = 600.0
    line_bytes_max: int
    session_limits: SessionLimits = SessionLimits()
    board_limits: BoardLimits = BoardLimits()
    connection_bounds: ConnectionBounds = ConnectionBounds()
    database_url: str
    admin_group: int | None = None
    books: BookTimes = BookTimes()
    upstreams: UpstreamSettings = UpstreamSettings()  # of all of them
    payouts: PayoutSettings | None = None
    messages: MessageSettings | None = None
    approval: Approval = Approval()
    site: SiteSettings | None = None
    hub: NatsSettings | None = None
    control: ControlSettings | None = None  # of machines; None: there is no [power]
    durations: Durations = USUAL  # of events of power
    signals: SignalSettings | None = None  # likewise
    proof_key_file: Path | None = None  # None: nothing is signed
    proof_former_files: tuple[Path, ...] = ()  # keys that signed before it
    proof_lost_key: str | None = None  # the public one of a key that nobody has any more
    proof_calendars: tuple[str, ...] = ()  # of OpenTimestamps, who are asked for stamps
    proof_stamps_dir: Path = Path("stamps")
    proof_from_log2: int = 24  # of whose difficulty shares are kept, where something is signed
    sv2: Sv2Settings | None = None  # None: only V1 is spoken

    def __repr__(self) -> str:
        return f"PoolConfig({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """All but where the book is: there may be a password in it. What else has one says nothing of it."""
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name != "database_url"]


class LoadedSettings(msgspec.Struct, frozen=True):
    """A settings file as it was read."""

    path: Path
    file: File
    config: PoolConfig


def load_settings(path: Path) -> LoadedSettings:
    """Read and check a settings file. Relative paths in it are relative to it. Raises BadConfig."""
    file = tables_in(path)
    return LoadedSettings(path, file, _checked(file, path.parent))


def load_config(path: Path) -> PoolConfig:
    """The same, without the file."""
    return load_settings(path).config


def tables_in(path: Path) -> File:
    """The file's tables, each setting within its range. Raises BadConfig."""
    raw = read_settings(path)
    try:
        return msgspec.convert(raw, File)
    except msgspec.ValidationError as error:
        raise BadConfig(f"{path}: {in_words(error, raw)}") from None


def parse_difficulty(value: object, what: str) -> int:
    """A power of two, as a number or as text like "65536" or "2^-32", as its exponent. Raises BadConfig."""
    number: Any = value
    if isinstance(value, str):
        base, caret, exponent = value.partition("^")
        try:
            if caret and base.strip() == "2":
                number = Fraction(2) ** max(min(int(exponent), _EXPONENT_MAX), -_EXPONENT_MAX)
            else:
                number = float(value)
        except ValueError:
            raise BadConfig(f"{what}: {value!r} is not a difficulty") from None
    for exponent_log2 in range(DIFFICULTY_LOG2_MIN, DIFFICULTY_LOG2_MAX + 1):
        if number == Fraction(2) ** exponent_log2:
            return exponent_log2
    raise BadConfig(
        f"{what}: {value} is not a power of two from 2^{DIFFICULTY_LOG2_MIN} to 2^{DIFFICULTY_LOG2_MAX}"
    )


def parse_address(text: str, what: str) -> tuple[str, int]:
    """HOST:PORT or [HOST]:PORT. Raises BadConfig."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1
    if not colon or not host or not 0 <= number <= 65_535:
        raise BadConfig(f"{what}: {text!r} is not HOST:PORT")
    return host, number


def _checked(file: File, base: Path) -> PoolConfig:
    pool, stratum, limits = file.pool, file.stratum, file.stratum.limits
    if pool.network not in CHAINS:
        raise BadConfig(f"pool.network: {pool.network!r} is unknown, there are: {', '.join(CHAINS)}")
    try:
        payout_script = script_for(pool.payout_address, pool.network)
    except BadAddress as error:
        raise BadConfig(f"pool.payout_address: {error}") from None
    if not pool.tag.isascii() or not pool.tag.isprintable() or len(pool.tag) > TAG_BYTES_MAX:
        raise BadConfig(f"pool.tag: at most {TAG_BYTES_MAX} printable ASCII characters")
    low = parse_difficulty(stratum.difficulty_min, "stratum.difficulty_min")
    start = parse_difficulty(stratum.difficulty_start, "stratum.difficulty_start")
    high = parse_difficulty(stratum.difficulty_max, "stratum.difficulty_max")
    if not low <= start <= high:
        raise BadConfig("stratum: difficulty_min <= difficulty_start <= difficulty_max does not hold")
    if (problem := file.approval.problem()) is not None:
        raise BadConfig(problem)
    _check_role(file)
    return PoolConfig(
        network=pool.network,
        data_dir=path_in(base, pool.data_dir, "pool.data_dir"),
        payout_script=payout_script,
        tag=pool.tag,
        outage_s=pool.outage_s,
        nodes=_nodes(file.node, base),
        endpoints=_endpoints(stratum, base) if file.hub is None else (),
        web=None if file.web is None else _web(file.web, base),
        start_difficulty_log2=start,
        vardiff=VardiffPolicy(
            aim_s=stratum.share_interval_s, difficulty_log2_min=low, difficulty_log2_max=high
        ),
        extranonce2_bytes=stratum.extranonce2_bytes,
        processes=stratum.processes,
        move_interval_s=stratum.move_interval_s,
        line_bytes_max=limits.line_bytes,
        session_limits=SessionLimits(
            subscribe_s=limits.subscribe_s, authorise_s=limits.authorise_s, idle_s=limits.idle_s
        ),
        board_limits=BoardLimits(out_bytes_max=limits.out_bytes),
        connection_bounds=ConnectionBounds(
            sessions_max=limits.sessions,
            sessions_per_address_max=limits.sessions_per_address,
            half_open_per_address_max=limits.half_open_per_address,
        ),
        books=IMPATIENT if pool.network == "regtest" else BookTimes(),
        payouts=file.payouts,
        admin_group=_group(file.admin),
        messages=None if file.messages is None else message_settings(file.messages, base),
        approval=file.approval,
        site=_site(file, base),
        hub=None if file.hub is None else _nats(file.hub, base, "hub"),
        control=None if file.power is None else _control(file.power, base),
        durations=USUAL if file.power is None else _durations(file.power),
        signals=None if file.power is None else _signals(file, file.power.signals, base),
        proof_key_file=None if file.proof is None else path_in(base, file.proof.key_file, "proof.key_file"),
        proof_former_files=()
        if file.proof is None
        else tuple(path_in(base, it, "proof.former_key_files") for it in file.proof.former_key_files),
        proof_lost_key=None if file.proof is None else file.proof.former_key_lost,
        proof_calendars=() if file.proof is None else tuple(file.proof.calendars),
        proof_stamps_dir=path_in(
            base, "stamps" if file.proof is None else file.proof.stamps_dir, "proof.stamps_dir"
        ),
        proof_from_log2=24
        if file.proof is None
        else parse_difficulty(file.proof.share_difficulty, "proof.share_difficulty"),
        sv2=_sv2(stratum.sv2, base),
        database_url=_database(file.database, base)
        or database_url(path_in(base, pool.data_dir, "pool.data_dir")),
    )


def _check_role(file: File) -> None:
    """An edge has no books, and a hub no miners. Raises BadConfig."""
    if file.edge is not None and file.hub is not None:
        raise BadConfig("edge, hub: one of them is this process")
    if file.hub is not None and file.stratum != StratumTable():
        raise BadConfig("stratum: a hub serves no miners, its edges do")
    if file.edge is None:
        return
    if file.stratum.processes != 1:
        raise BadConfig("stratum.processes: an edge is one process; a large site has several edges")
    books = {"web": file.web, "payouts": file.payouts, "messages": file.messages, "proof": file.proof}
    for name, table in (*books.items(), ("database", file.database.url)):
        if table is not None:
            raise BadConfig(f"{name}: an edge keeps no books, its hub does")
    if file.approval != Approval() or file.admin != AdminTable():
        raise BadConfig("approval, admin: an edge takes no commands, its hub does")


def _signals(file: File, table: SignalsTable, base: Path) -> SignalSettings:
    if file.edge is not None and table != SignalsTable():
        raise BadConfig("power.signals: an edge takes none, its hub does")
    if table.webhook_secret_file is not None and file.web is None:
        raise BadConfig("power.signals.webhook_secret_file: without [web] nobody can call")
    return signal_settings(table, base)


def _control(table: PowerTable, base: Path) -> ControlSettings:
    return control_settings(table.dry_run, table.networks, table.key_file, base)


def _durations(table: PowerTable) -> Durations:
    found = Durations(least_s=table.least_minutes * 60, longest_s=table.longest_hours * 3_600)
    if found.least_s > found.longest_s:
        raise BadConfig("power.least_minutes: is more than longest_hours")
    return found


def _site(file: File, base: Path) -> SiteSettings | None:
    if (table := file.edge) is None:
        return None
    named = table.second_journal
    second = None if named is None else path_in(base, named, "edge: second_journal")
    if second is not None and second.resolve() == path_in(base, file.pool.data_dir, "").resolve():
        raise BadConfig("edge: second_journal: is data_dir, and is to be a directory on another disk")
    return SiteSettings(
        name=table.name,
        nats=_nats(table, base, "edge"),
        alone_hours=table.alone_hours,
        second_journal=second,
    )


def _nats(table: NatsTable, base: Path, what: str) -> NatsSettings:
    authorities = table.authorities
    return NatsSettings(
        urls=tuple(table.nats),
        key_file=path_in(base, table.key_file, f"{what}: key_file"),
        authorities=None if authorities is None else path_in(base, authorities, f"{what}: authorities"),
    )


def _database(table: DatabaseTable, base: Path) -> str | None:
    if table.password_file is None:
        return table.url
    try:
        url = read_url(table.url or "")
    except ValueError:
        url = None  # its words have the URL, which may have a secret
    if url is None or url.username is None:
        raise BadConfig("database: password_file needs a url, postgresql://USER@HOST/NAME")
    if url.password is not None:
        raise BadConfig("database: give the password in url or in password_file, not both")
    secret = _secret(base, table.password_file, "database")
    return url.set(password=secret).render_as_string(hide_password=False)


def _secret(base: Path, name: str, what: str) -> str:
    path = path_in(base, name, f"{what}: password_file")
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise BadConfig(f"{what}: cannot read the password_file {path}") from None


def _nodes(tables: list[NodeTable], base: Path) -> tuple[NodeConfig, ...]:
    if not tables:
        raise BadConfig("node: at least one [[node]] is needed")
    configs = []
    for table in tables:
        password = table.password
        if table.password_file is not None:
            if password is not None:
                raise BadConfig(f"node {table.name}: give password or password_file, not both")
            password = _secret(base, table.password_file, f"node {table.name}")
        cookie_file = None
        if table.cookie_file is not None:
            cookie_file = path_in(base, table.cookie_file, f"node {table.name}: cookie_file")
        try:
            configs.append(
                NodeConfig(
                    name=table.name,
                    url=table.url,
                    cookie_file=cookie_file,
                    user=table.user,
                    password=password,
                    zmq_hashblock=table.zmq_hashblock,
                )
            )
        except ValueError as error:
            raise BadConfig(str(error)) from None
    if len({config.name for config in configs}) != len(configs):
        raise BadConfig("node: two nodes have the same name")
    return tuple(configs)


def _endpoints(table: StratumTable, base: Path) -> tuple[Endpoint, ...]:
    proxies = tuple(_network(text) for text in table.proxy_protocol_from)
    endpoints = []
    for text in table.listen:
        host, port = parse_address(text, "stratum.listen")
        endpoints.append(Endpoint(host=host, port=port, proxies=proxies))
    if table.listen_tls and table.certificate is None:
        raise BadConfig("stratum.listen_tls: a certificate is needed")
    if not table.listen_tls and (table.certificate is not None or table.key is not None):
        raise BadConfig("stratum.certificate: is not used without listen_tls")
    for text in table.listen_tls:
        host, port = parse_address(text, "stratum.listen_tls")
        certificate, key = _pem_files(table, base, "stratum")
        endpoints.append(Endpoint(host=host, port=port, certificate=certificate, key=key, proxies=proxies))
    for text in table.sv2.listen:
        host, port = parse_address(text, "stratum.sv2.listen")
        endpoints.append(Endpoint(host=host, port=port, proxies=proxies, dialect=SV2))
    if not endpoints:
        raise BadConfig("stratum.listen: nothing to listen on")
    return tuple(endpoints)


def _sv2(table: Sv2Table, base: Path) -> Sv2Settings | None:
    if not table.listen:
        if table != Sv2Table():
            raise BadConfig("stratum.sv2: is not used without listen")
        return None
    if table.authority_file is None:
        raise BadConfig("stratum.sv2: needs an authority_file, which `angara sv2 key` makes")
    authority = read_authority(path_in(base, table.authority_file, "stratum.sv2.authority_file"))
    return Sv2Settings(authority=authority, validity_s=table.certificate_hours * 3_600)


def _web(table: WebTable, base: Path) -> Endpoint:
    host, port = parse_address(table.listen, "web.listen")
    certificate, key = _pem_files(table, base, "web")
    if certificate is None and key is not None:
        raise BadConfig("web.key: is not used without a certificate")
    if certificate is None and not is_this_host(host):
        raise BadConfig(
            f"web.listen: on {host} others could listen in: a certificate is needed there, or an address of"
            " this host alone, as 127.0.0.1"
        )
    return Endpoint(host=host, port=port, certificate=certificate, key=key)


def _pem_files(table: StratumTable | WebTable, base: Path, name: str) -> tuple[str | None, str | None]:
    """Certificate and key."""
    return (
        None if table.certificate is None else str(path_in(base, table.certificate, f"{name}.certificate")),
        None if table.key is None else str(path_in(base, table.key, f"{name}.key")),
    )


def _group(table: AdminTable) -> int | None:
    if table.group is None:
        return None
    try:
        return grp.getgrnam(table.group).gr_gid
    except (KeyError, ValueError):
        raise BadConfig(f"admin.group: there is no group {table.group!r} on this host") from None


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise BadConfig(
            f"stratum.proxy_protocol_from: {text!r} is not an address, or a network like 10.0.0.0/24"
        ) from None
