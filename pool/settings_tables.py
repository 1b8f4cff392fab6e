"""The settings file as tables: every setting's type, range, default and meaning, each said once and here.

What refuses a wrong file, what `angara config show` tells, and docs/configuration.md are read from these.
Must not know: what a setting is made into (`pool.config`).
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, inspect

from pool.database_url import read_url
from pool.messages.settings import MessagesTable
from pool.power.signals.settings import SignalsTable
from pool.requests.policy import Approval
from pool.treasury.settings import PayoutSettings

# Live settings, which `angara reload` takes up while the pool runs, and tables with all that is in them.
LIVE: Final = (
    "pool.outage_s",
    "stratum.move_interval_s",
    "stratum.limits.out_bytes",
    "stratum.limits.sessions",
    "stratum.limits.sessions_per_address",
    "stratum.limits.half_open_per_address",
    "messages",
)
SECRET: Final = {"secret": True}  # shown as set or not set
URL: Final = {"url": True}  # may have a password in it, which is not shown
UNITS: Final = {
    "_s": "s",
    "_bytes": "bytes",
    "_sat": "sat",
    "_sat_vb": "sat/vB",
}  # by how a name ends, the longest last


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the file. What is in it is told by `angara config show` alone: passwords are beside the rest."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


Seconds = Annotated[float, Meta(ge=1, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=1 << 20)]
Difficulty = int | float


class PoolTable(Table, frozen=True):
    """What the pool is of."""

    network: Annotated[str, Meta(description="main, test, testnet4, signet or regtest")]
    data_dir: Annotated[
        str,
        Meta(description="Where found blocks are written before they are submitted; the book, too"),
    ]
    payout_address: Annotated[str, Meta(description="What the coinbase pays: any kind of address")]
    tag: Annotated[str, Meta(description="What a coinbase says of who made it, printable ASCII")] = "/Angara/"
    outage_s: Annotated[
        Seconds, Meta(description="Miners keep the last work this long while no node answers")
    ] = 600.0


class NodeTable(Table, frozen=True):
    """A bitcoind; in order of preference. A found block goes to all of them."""

    name: Annotated[str, Meta(description="What it is called in logs and answers")]
    url: Annotated[str, Meta(description="Of its JSON-RPC, http://HOST:PORT")]
    cookie_file: Annotated[str | None, Meta(description="Its cookie, in place of a user and password")] = None
    user: Annotated[str | None, Meta(description="Of its JSON-RPC")] = None
    password: Annotated[str | None, Meta(description="The user's", extra=SECRET)] = None
    password_file: Annotated[str | None, Meta(description="A file with the password, in place of it")] = None
    zmq_hashblock: Annotated[
        str | None,
        Meta(description="tcp://HOST:PORT, where it tells of blocks: milliseconds earlier"),
    ] = None


class LimitsTable(Table, frozen=True):
    """Of connections."""

    line_bytes: Annotated[int, Meta(ge=512, le=1 << 20, description="The longest line of a miner")] = 8192
    out_bytes: Annotated[
        int, Meta(ge=4096, le=1 << 24, description="Who leaves so much unread is dropped")
    ] = 65_536
    subscribe_s: Annotated[Seconds, Meta(description="Who has not subscribed by then is dropped")] = 10.0
    authorise_s: Annotated[Seconds, Meta(description="Who has not authorised by then is dropped")] = 30.0
    idle_s: Annotated[Seconds, Meta(description="Who is silent so long is asked whether it lives")] = 600.0
    sessions: Annotated[
        Count, Meta(description="Connections at a time; fewer where descriptors allow no more")
    ] = 100_000
    sessions_per_address: Annotated[
        Count, Meta(description="Of one address, or one /64: a site is behind one")
    ] = 65_536
    half_open_per_address: Annotated[
        Count, Meta(description="Of one address that have not authorised: the oldest makes room")
    ] = 1_024


class Sv2Table(Table, frozen=True):
    """Stratum V2, beside V1; off where it listens nowhere."""

    listen: Annotated[list[str], Meta(description="HOST:PORT, for machines and proxies")] = msgspec.field(
        default_factory=list
    )
    authority_file: Annotated[
        str | None, Meta(description="The pool's key, by which machines know it: `angara sv2 key` makes one")
    ] = None
    certificate_hours: Annotated[
        int,
        Meta(
            ge=1,
            le=8_760,
            description="For how long a server's certificate is good; it is renewed after half of that",
        ),
    ] = 24


class StratumTable(Table, frozen=True):
    """The miners' side."""

    listen: Annotated[list[str], Meta(description="HOST:PORT, for miners")] = msgspec.field(
        default_factory=lambda: ["127.0.0.1:3333"]
    )
    listen_tls: Annotated[list[str], Meta(description="HOST:PORT, for miners over TLS")] = msgspec.field(
        default_factory=list
    )
    certificate: Annotated[
        str | None, Meta(description="For listen_tls: PEM, taken up without a restart when it is renewed")
    ] = None
    key: Annotated[str | None, Meta(description="The certificate's, where it is a file of its own")] = None
    proxy_protocol_from: Annotated[
        list[str], Meta(description="Load balancers whose connections begin with a PROXY header")
    ] = msgspec.field(default_factory=list)
    difficulty_start: Annotated[
        Difficulty, Meta(description="At first contact; a power of two, as all difficulties")
    ] = 65_536
    difficulty_min: Annotated[Difficulty, Meta(description="No machine mines below it")] = 1_024
    difficulty_max: Annotated[Difficulty, Meta(description="No machine mines above it")] = 1 << 50
    # To the cores of the largest host that a site has: miners' work is native beyond it.
    processes: Annotated[
        int,
        Meta(ge=1, le=16, description="That serve miners at the same endpoints; limits are of each of them"),
    ] = 1
    share_interval_s: Annotated[float, Meta(ge=2, le=60, description="What vardiff aims at, per machine")] = (
        6.0
    )
    # With 4, and the 4 of extranonce1, a machine can be moved to most other pools without new extranonces;
    # with less or more miners cannot do.
    extranonce2_bytes: Annotated[
        int,
        Meta(
            ge=4,
            le=8,
            description="With 4 machines move to most upstreams without new extranonces; with 8 other "
            "proxies can mine here",
        ),
    ] = 4
    move_interval_s: Annotated[
        float, Meta(ge=0, le=86_400, description="Between two moves of a machine from one channel to another")
    ] = 600.0
    limits: LimitsTable = LimitsTable()
    sv2: Sv2Table = Sv2Table()


class WebTable(Table, frozen=True):
    """HTTP for whoever is no miner; off without it."""

    listen: Annotated[str, Meta(description="HOST:PORT; TLS is demanded for an address that is not loopback")]
    certificate: Annotated[str | None, Meta(description="PEM")] = None
    key: Annotated[str | None, Meta(description="The certificate's, where it is a file of its own")] = None


class DatabaseTable(Table, frozen=True):
    """The book."""

    url: Annotated[
        str | None,
        Meta(
            description="postgresql://USER@HOST/NAME, of several HOST,HOST the one that is written to;"
            " without, SQLite in the data directory",
            extra=URL,
        ),
    ] = None
    # For a URL without one: settings are read by more people than secrets.
    password_file: Annotated[str | None, Meta(description="A file with the url's password")] = None


class AdminTable(Table, frozen=True):
    """Who gives commands to the running pool; without it, the account that runs it, and root."""

    group: Annotated[
        str | None,
        Meta(description="Whose accounts may connect to the socket, each as the user that has the account"),
    ] = None


class NatsTable(Table, frozen=True, kw_only=True):
    """How the servers are reached that carry what sites and hub say to each other."""

    nats: Annotated[list[str], Meta(description="NATS servers, tls://HOST:PORT; nats:// on this host alone")]
    key_file: Annotated[str, Meta(description="The key that is shown to them: `angara nats key` makes one")]
    authorities: Annotated[
        str | None, Meta(description="Whose certificates of theirs are good, PEM; needed for tls://")
    ] = None


class EdgeTable(NatsTable, frozen=True, kw_only=True):
    """Of `angara edge`: who serves miners at a site, for a hub."""

    name: Annotated[str, Meta(description="As the hub knows it: `angara edge add`")]
    second_journal: Annotated[
        str | None,
        Meta(description="A directory on another disk, where every share is written too before it counts"),
    ] = None
    alone_hours: Annotated[
        int,
        Meta(
            ge=1,
            le=7 * 24,  # prices of before are taken so long (pool.books.edges.prices)
            description="It begins without the hub by what that said at most so long ago",
        ),
    ] = 72


class HubTable(NatsTable, frozen=True):
    """Of `angara hub`: who keeps the books of edges at sites."""


class PowerTable(Table, frozen=True):
    """Machines that are told to draw less; off without it."""

    dry_run: Annotated[
        bool, Meta(description="Say what would be told to machines, and tell them nothing")
    ] = True
    networks: Annotated[
        list[str],
        Meta(description="Where machines stand, like 10.0.0.0/16: nothing is sent anywhere else"),
    ] = msgspec.field(default_factory=list)
    key_file: Annotated[
        str | None,
        Meta(description="The key that opens the passwords of machines, 0600"),
    ] = None
    least_minutes: Annotated[
        int, Meta(ge=1, le=24 * 60, description="That a curtailment lasts at least, whoever asks for it")
    ] = 10
    longest_hours: Annotated[int, Meta(ge=1, le=31 * 24, description="That it lasts at most")] = 168
    signals: SignalsTable = SignalsTable()


CALENDARS_MAX: Final = 8  # as payouts.proof.stamps has it, whose library need not be there
STAMPS_MISSING: Final = "opentimestamps is not installed: pip install 'angara[timestamps]'"


class ProofTable(Table, frozen=True, kw_only=True):
    """Statements that clients check without trusting the pool; off without it."""

    key_file: Annotated[str, Meta(description="The key that signs them, 0600: `angara proof key` makes one")]
    former_key_files: Annotated[
        list[str],
        Meta(
            description="Keys that signed before it: the newest of them signs that this one is next, and each"
            " the statements that end with a day of its own"
        ),
    ] = msgspec.field(default_factory=list)
    former_key_lost: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None,
        Meta(
            description="The public key before it, where nobody has its file any more: clients are told that"
            " it did not sign the next one",
        ),
    ] = None
    share_difficulty: Annotated[
        Difficulty,
        Meta(
            description="Shares whose hash is of that difficulty or more are kept, and proven; of the default"
            " a machine of 200 TH/s finds ten an hour"
        ),
    ] = 16_777_216
    calendars: Annotated[
        list[Annotated[str, Meta(pattern=r"^https?://[A-Za-z0-9._:/-]{1,200}$")]],
        Meta(
            max_length=CALENDARS_MAX,
            description="Calendars of OpenTimestamps, which `angara proof stamp make` tells the hash of the"
            " newest root; none is asked without it. Takes `pip install 'angara[timestamps]'`",
        ),
    ] = msgspec.field(default_factory=list)
    stamps_dir: Annotated[str, Meta(description="Where their stamps are, a file for each root")] = "stamps"


class File(Table, frozen=True):
    """All of it."""

    pool: PoolTable
    node: list[NodeTable]
    stratum: StratumTable = StratumTable()
    web: WebTable | None = None
    database: DatabaseTable = DatabaseTable()
    admin: AdminTable = AdminTable()
    payouts: PayoutSettings | None = None
    messages: MessagesTable | None = None
    approval: Approval = Approval()
    edge: EdgeTable | None = None
    hub: HubTable | None = None
    power: PowerTable | None = None
    proof: ProofTable | None = None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One of the file, as it may be. `default` is REQUIRED where there is none."""

    name: str  # stratum.limits.idle_s; of each node: node.url
    default: Any
    least: float | None
    most: float | None
    unit: str
    meaning: str
    secret: bool
    url: bool

    @property
    def live(self) -> bool:
        """Whether a running pool takes it up."""
        return any(self.name == it or self.name.startswith(f"{it}.") for it in LIVE)


class SettingValue(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says, or the default; `name` is the setting's, of a node with its place: node[0].url."""

    name: str
    setting: Setting
    value: Any

    @property
    def shown(self) -> Any:
        """Without what is secret."""
        if self.setting.secret:
            return "set" if self.value is not None else "not set"
        if self.setting.url and self.value is not None:
            return read_url(self.value).render_as_string(hide_password=True)
        return self.value


REQUIRED: Final = object()


def bare(kind: Any) -> Any:
    """A type without what is said of it, and without the None that TOML cannot say."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        kinds = [it for it in kind.types if not isinstance(it, inspect.NoneType)]
        return bare(kinds[0]) if len(kinds) == 1 else kind
    return kind


def all_settings() -> tuple[Setting, ...]:
    """In the order of the file."""
    return tuple(_of_table("", inspect.type_info(File)))


def values_of(file: File) -> tuple[SettingValue, ...]:
    """In the order of the file; settings of a node for each node."""
    values: dict[str, Any] = msgspec.to_builtins(file)
    settings = all_settings()
    of_nodes = [it for it in settings if it.name.startswith("node.")]
    found: list[SettingValue] = []
    for setting in settings:
        if setting not in of_nodes:
            found.append(SettingValue(name=setting.name, setting=setting, value=_at(setting.name, values)))
        elif setting is of_nodes[0]:
            for place, node in enumerate(values["node"]):
                for it in of_nodes:
                    name = it.name.removeprefix("node.")
                    found.append(SettingValue(name=f"node[{place}].{name}", setting=it, value=node[name]))
    return tuple(found)


def _at(name: str, values: Any) -> Any:
    for part in name.split("."):
        values = None if values is None else values[part]
    return values


def _of_table(prefix: str, table: Any) -> Iterator[Setting]:
    for field in table.fields:
        name, kind = f"{prefix}{field.encode_name}", bare(field.type)
        if isinstance(kind, inspect.ListType) and isinstance(bare(kind.item_type), inspect.StructType):
            kind = bare(kind.item_type)
        if isinstance(kind, inspect.StructType):
            yield from _of_table(f"{name}.", kind)
            continue
        said, extra = _said(field.type)
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        yield Setting(
            name=name,
            default=REQUIRED if default is msgspec.NODEFAULT else default,
            least=getattr(kind, "ge", None),
            most=getattr(kind, "le", None),
            unit=next((unit for end, unit in reversed(UNITS.items()) if name.endswith(end)), ""),
            meaning=said,
            secret="secret" in extra,
            url="url" in extra,
        )


def _said(kind: Any) -> tuple[str, dict[str, Any]]:
    said = ""
    extra: dict[str, Any] = {}
    while isinstance(kind, inspect.Metadata):
        said = (kind.extra_json_schema or {}).get("description", said)
        extra |= kind.extra or {}
        kind = kind.type
    return said, extra
