"""The operator's commands, each once: a running pool executes them, and so does the command line without one.

A command is a frozen struct of its parameters and a function; what that says it returns is the type of the
answer's JSON, and is in the document of the API. A question is a function of a `Desk`, which cannot write. A
change is one of an `OperatorDesk`, which writes down who changed what: it says what its subject is called,
and what the books have of it. One that moves money or power is `Guarded`: it may have to wait for a second
person. Mistakes are RegistryError, in words.

Each says the least role that may give it, and whoever has less is refused before anything is looked at. What
a tenant's users may ask has a `narrowed`: the same question, about their own tenant.

Must not know: sockets, terminals, and how a caller is known.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import chain
from typing import Any, Final

import msgspec
import structlog

from payouts.proof.key import ProofKey
from pool.admin.command import Change, Commands, Guarded, Question
from pool.admin.desk import Desk, GivenBefore, PayingOut, wall_s
from pool.admin.operators import ALONE, caller_alone
from pool.admin.pages import Page
from pool.admin.requests.glass import glass_broken
from pool.admin.requests.policy_record import note_policy, noted_policy
from pool.admin.requests.requests import (
    RequestApprove,
    RequestCarryOut,
    RequestList,
    Requests,
    RequestShow,
    RequestWithdraw,
    request_of,
    request_state,
)
from pool.books.book import bound_network, network_to_read
from pool.books.changes.keys import ChangeKey, KeyedChange, digest_of, keep_answer, keyed_change
from pool.books.store import DATABASE_ERRORS, Store, open_store, words_of
from pool.fleet.rows import RegistryError
from pool.people.roles import Caller, Role
from pool.power.curtailment.durations import USUAL, Durations
from pool.requests.policy import Approval
from stratum.json_depth import too_deep
from stratum.unreadable import NOT_READ


class UnknownCommand(RegistryError):
    """There is no command of that name."""


class KeyReused(RegistryError):
    """A key that was for something else."""


class DoneBefore(RegistryError):
    """It was done under this key, and what was answered is not kept."""


log = structlog.get_logger()

INTEGER_MAX: Final = (1 << 63) - 1

# The files in which a noun's commands are, in the order of the API's document. Each has a table COMMANDS.
NOUNS: Final[dict[str, tuple[str, ...]]] = {
    "tenant": ("fleet.tenants",),
    "site": ("fleet.machines",),
    "container": ("fleet.machines", "fleet.nameplates"),
    "worker": ("fleet.machines",),
    "statement": ("bookkeeping.statements",),
    "proof": ("bookkeeping.proof",),
    "reject": ("fleet.rejects",),
    "firmware": ("fleet.firmware",),
    "trace": ("fleet.traces",),
    "upstream": ("routing.upstreams",),
    "order": ("routing.orders", "routing.sales"),
    "edge": ("service.edges",),
    "payout": ("payouts.commands",),
    "proposal": ("payouts.commands",),
    "reversal": ("bookkeeping.reversals",),
    "block": ("bookkeeping.blocks",),
    "user": ("people.users",),
    "token": ("people.tokens",),
    "drain": ("service.running",),
    "lease": ("service.running",),
    "settings": ("service.reloads",),
    "message": ("service.messages",),
    "change": ("people.changes",),
    "power": (
        *("power.now", "power.machines", "power.minutes", "power.told_machines"),
        *("power.events", "power.terms", "power.signals"),
    ),
    "model": ("power.models",),
    "meter": ("power.meters",),
    "limit": ("power.limits",),
    "tariff": ("power.tariffs",),
    "exchange": ("power.tariffs",),
    "hosting": ("power.hosting",),
    "carbon": ("power.hosting",),
    "grid": ("power.hosting",),
    "address": ("power.addresses",),
    "credential": ("power.credentials",),
    "held": ("power.held",),
}


class Table(Mapping[str, Question | Change]):
    """All commands by name. A noun's files are read when one of its commands is wanted, because a command
    line that gives one command has no second to read the others; who wants all reads them all."""

    def __init__(self) -> None:
        self._requests: Commands = {}

    def with_requests(self, requests: Commands) -> None:
        """Those of requests, which look the others up here."""
        self._requests = requests

    def read(self) -> None:
        """All files, in a process that many will ask: none of them has to wait for that."""
        len(self)

    def __getitem__(self, name: str) -> Question | Change:
        for file in NOUNS.get(name.partition(".")[0], ()):
            if (found := _in(file).get(name)) is not None:
                return found
        return self._requests[name]

    def __iter__(self) -> Iterator[str]:
        yield from chain(*map(_in, dict.fromkeys(chain(*NOUNS.values()))), self._requests)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _in(file: str) -> Commands:
    commands: Commands = import_module(f"pool.admin.{file}").COMMANDS
    return commands


COMMANDS: Final = Table()
REQUESTS: Final = Requests(COMMANDS)
COMMANDS.with_requests(
    {
        "request.list": Question(RequestList, REQUESTS.list_all),
        "request.show": Question(RequestShow, REQUESTS.show),
        "request.approve": Change(
            RequestApprove, REQUESTS.approve, request_of, request_state, Role.PAYER, makes_books=False
        ),
        "request.withdraw": Change(
            RequestWithdraw, REQUESTS.withdraw, request_of, request_state, Role.PAYER, makes_books=False
        ),
        "request.carry-out": Change(
            RequestCarryOut,
            REQUESTS.carry_out,
            request_of,
            request_state,
            Role.PAYER,
            makes_books=False,
            secret=True,
        ),
    }
)


def _beyond(value: object) -> str | None:
    """What is in it that no column of a database takes, in words: PostgreSQL would be said to fail."""
    if isinstance(value, int) and not -INTEGER_MAX <= value <= INTEGER_MAX:
        return f"{str(value)[:20]}... has more than 64 bits"
    if isinstance(value, str) and "\0" in value:
        return f"{value[:20]!r} has a character that is none"
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((words for part in parts if (words := _beyond(part)) is not None), None)


def asks_nodes(name: str) -> bool:
    """Whether it may take as long as nodes like."""
    command = COMMANDS.get(name)
    return isinstance(command, Change) and command.asks_nodes


def asks_machines(name: str) -> bool:
    """Whether it may take as long as machines like."""
    command = COMMANDS.get(name)
    return command is not None and command.asks_machines


def execute(desk: Desk, name: str, body: bytes, caller: Caller, glass: str | None = None) -> Any:
    """The same as `answer_to`, in Python's types for what JSON has."""
    return msgspec.json.decode(answer_to(desk, name, body, caller, glass=glass).body)


class Answer(msgspec.Struct, frozen=True):
    """JSON; of a list the cursor of what is behind it, if there is something."""

    body: bytes
    cursor: str | None = None


def answer_to(
    desk: Desk,
    name: str,
    body: bytes,
    caller: Caller,
    key: str | None = None,
    *,
    glass: str | None = None,
    all_text: bool = False,
) -> Answer:
    """Execute a command with its JSON parameters; those of a URL are `all_text`. A change that the
    caller asked for before under the same key is not made again; a question has no need of one. `glass`: why
    a change is made at once, though it had to wait. Raises RegistryError in words, NotPermitted where it is
    not the caller's to give, and RequestMade where it waits for a second person or its time."""
    if name not in COMMANDS:
        raise UnknownCommand(f"there is no command {name!r:.80}")
    command = COMMANDS[name]
    caller.demand(command.least, name)
    if too_deep(body):
        raise RegistryError(f"{name}: nested too deeply")
    try:
        params = msgspec.json.decode(body or b"{}", type=command.params, strict=not all_text)
    except NOT_READ as error:
        raise RegistryError(f"{name}: {error}") from None
    if (words := _beyond(msgspec.to_builtins(params))) is not None:
        raise RegistryError(f"{name}: {words}")
    if command.narrowed is not None:
        params = command.narrowed(params, caller)
    waits = isinstance(command, Guarded) and desk.policy.on and command.waits(params, caller)
    if glass is not None and not waits:
        raise RegistryError(f"{name} waits for nobody here: give it without breaking the glass")
    if isinstance(command, Question):
        told = command.answer(desk, params)
        if isinstance(told, Page):
            return Answer(msgspec.json.encode(told.rows), told.cursor)
        return Answer(msgspec.json.encode(told))
    called = None
    if key is not None:
        digest = digest_of(name, msgspec.json.encode(params))
        called = ChangeKey(caller=caller.name, key=key, digest=digest)
        before = desk.read(lambda connection: keyed_change(connection, called, wall_s()))
        if before is not None:
            return Answer(_answered(called, before))
    operator_desk = command.desk(desk, name, params, caller, called)
    if glass is not None:
        operator_desk = glass_broken(operator_desk, glass)
    elif waits:
        REQUESTS.ask(desk, name, params, caller)
    try:
        answer = msgspec.json.encode(command.carry_out(operator_desk, params))
    except GivenBefore as error:
        assert called is not None
        return Answer(_answered(called, error.before))
    if called is not None and operator_desk.noted and not command.secret:
        _keep(desk, called, answer)
    return Answer(answer)


def _answered(key: ChangeKey, before: KeyedChange) -> bytes:
    """What was answered to the same before. Raises KeyReused or DoneBefore."""
    if key.digest != before.digest:
        raise KeyReused("this Idempotency-Key was for another command, or for other parameters")
    if before.answer is None:
        raise DoneBefore(
            f"this was done, and is change {before.change} of the history: what was answered was a secret,"
            " or is lost, and cannot be told again"
        )
    return before.answer.encode()


def _keep(desk: Desk, key: ChangeKey, answer: bytes) -> None:
    """It was done, whatever becomes of this: without it, who asks again is told that."""
    try:
        with desk.store.write() as connection:
            keep_answer(connection, key, answer)
    except DATABASE_ERRORS as error:
        log.warning("answer_not_kept", reason=words_of(error)[:300])


def execute_alone(
    database_url: str,
    network: str | None,
    name: str,
    body: bytes,
    by: str,
    *,
    token: str | None = None,
    paying: PayingOut | None = None,
    policy: Approval | None = None,
    durations: Durations = USUAL,
    glass: str | None = None,
    proof: ProofKey | None = None,
) -> Any:
    """The same without a pool. `network` and `policy` are what settings say; without settings the book's own
    count. A change makes the database where there is none, a question never does. It is the account `by` who
    asks, or the user whose token is shown. Raises StoreError too."""
    command = COMMANDS.get(name)
    store = open_store(database_url, new=isinstance(command, Change) and command.makes_books)
    try:
        of = _network(store, network) if isinstance(command, Question) else bound_network(store, network)
        if policy is None:
            with store.read() as connection:
                policy = noted_policy(connection)
        elif isinstance(command, Change):
            note_policy(store, policy, by=by, source=ALONE)
        caller = caller_alone(store, by, token)
        return execute(Desk(store, of, None, paying, policy, durations, proof), name, body, caller, glass)
    finally:
        store.close()


def _network(store: Store, claimed: str | None) -> str | None:
    """For a question, which binds no book to what is claimed of it."""
    with store.read() as connection:
        return network_to_read(connection, claimed)
