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

from typing import Any, Final

import msgspec
import structlog

from pool.admin.bookkeeping.blocks import BlockList, block_list
from pool.admin.bookkeeping.reversals import (
    ReversalConfirm,
    ReversalPropose,
    ReversalShow,
    reversal_confirm,
    reversal_propose,
    reversal_show,
    reversal_state,
    reversed_transaction,
)
from pool.admin.bookkeeping.statements import (
    StatementFile,
    StatementShow,
    statement_file,
    statement_of,
    statement_show,
)
from pool.admin.command import Change, Guarded, Question
from pool.admin.desk import Desk, GivenBefore, PayingOut, named, wall_s
from pool.admin.fleet.firmware import FirmwareList, firmware_list
from pool.admin.fleet.machines import (
    ContainerList,
    ContainerRemove,
    ContainerSet,
    SiteList,
    WorkerList,
    WorkerRemove,
    WorkerShow,
    container_list,
    container_list_of,
    container_remove,
    container_set,
    container_state,
    named_container,
    named_worker,
    site_list,
    worker_list,
    worker_list_of,
    worker_remove,
    worker_show,
    worker_show_of,
    worker_state,
)
from pool.admin.fleet.nameplates import (
    ContainerCompare,
    ContainerExport,
    ContainerImport,
    all_containers,
    container_compare,
    container_export,
    container_import,
)
from pool.admin.fleet.rejects import RejectShow, reject_show, reject_show_of
from pool.admin.fleet.tenants import (
    TenantAdd,
    TenantList,
    TenantSetAddress,
    TenantSetStatus,
    TenantSetTerms,
    TenantShow,
    held_by_the_books,
    tenant_add,
    tenant_list,
    tenant_set_address,
    tenant_set_status,
    tenant_set_terms,
    tenant_show,
    tenant_show_of,
    tenant_state,
)
from pool.admin.fleet.traces import TraceShow, TraceStart, trace_show, trace_start, traced
from pool.admin.operators import ALONE, caller_alone
from pool.admin.pages import Page
from pool.admin.payouts.commands import (
    PayoutAccept,
    PayoutApprove,
    PayoutCancel,
    PayoutCreate,
    PayoutDisown,
    PayoutList,
    PayoutPreview,
    PayoutShow,
    ProposalList,
    accepted_state,
    batch_state,
    new_batch,
    newest_state,
    one_batch,
    one_transaction,
    payout_accept,
    payout_approve,
    payout_cancel,
    payout_create,
    payout_disown,
    payout_list,
    payout_preview,
    payout_show,
    proposal_list,
)
from pool.admin.people.changes import ChangeList, change_list
from pool.admin.people.tokens import (
    TokenCreate,
    TokenList,
    TokenRevoke,
    for_another,
    token_create,
    token_create_of,
    token_list,
    token_list_of,
    token_revoke,
    token_revoke_of,
    token_state,
    tokens_of,
)
from pool.admin.people.users import (
    UserAdd,
    UserList,
    UserSetRole,
    UserSetStatus,
    UserShow,
    lets_in,
    user_add,
    user_list,
    user_set_role,
    user_set_status,
    user_show,
    user_state,
)
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
from pool.admin.routing.orders import (
    OrderAdd,
    OrderEnd,
    OrderList,
    OrderShow,
    order_add,
    order_end,
    order_list,
    order_show,
    order_state,
)
from pool.admin.routing.upstreams import (
    UpstreamAdd,
    UpstreamList,
    UpstreamRemove,
    UpstreamShow,
    UpstreamSwitch,
    upstream_add,
    upstream_list,
    upstream_remove,
    upstream_show,
    upstream_state,
    upstream_switch,
    without_passwords,
)
from pool.admin.service.edges import (
    EdgeAdd,
    EdgeList,
    EdgeRelease,
    EdgeReset,
    EdgeRetire,
    EdgeSet,
    EdgeShow,
    edge_add,
    edge_list,
    edge_release,
    edge_reset,
    edge_retire,
    edge_set,
    edge_show,
    edge_state,
)
from pool.admin.service.messages import (
    MessageList,
    MessageSilence,
    MessageTest,
    message_list,
    message_silence,
    message_test,
    silenced,
)
from pool.admin.service.reloads import SettingsReload, settings_reload, the_settings
from pool.admin.service.running import (
    DrainBegin,
    DrainEnd,
    DrainShow,
    drain_begin,
    drain_end,
    drain_show,
    no_state,
    the_pool,
)
from pool.books.book import bound_network, network_to_read
from pool.books.changes.keys import ChangeKey, KeyedChange, digest_of, keep_answer, keyed_change
from pool.books.store import DATABASE_ERRORS, Store, open_store, words_of
from pool.fleet.rows import RegistryError
from pool.people.roles import Caller, Role
from pool.requests.policy import Approval
from stratum.json_depth import too_deep


class UnknownCommand(RegistryError):
    """There is no command of that name."""


class KeyReused(RegistryError):
    """A key that was for something else."""


class DoneBefore(RegistryError):
    """It was done under this key, and what was answered is not kept."""


log = structlog.get_logger()

INTEGER_MAX: Final = (1 << 63) - 1


class LeaseShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


def lease_show(desk: Desk, it: LeaseShow) -> int | None:
    """The epoch of the pool's lease, for those who write beside it on its host."""
    return desk.store.lease_epoch


TENANT, OPERATOR, PAYER, ADMIN = Role.TENANT, Role.OPERATOR, Role.PAYER, Role.ADMIN
COMMANDS: Final[dict[str, Question | Change]] = {
    "tenant.add": Guarded(TenantAdd, tenant_add, named, tenant_state, PAYER),
    "tenant.list": Question(TenantList, tenant_list),
    "tenant.show": Question(TenantShow, tenant_show, TENANT, tenant_show_of),
    "tenant.set-address": Guarded(
        TenantSetAddress, tenant_set_address, named, tenant_state, PAYER, held=held_by_the_books
    ),
    "tenant.set-terms": Guarded(TenantSetTerms, tenant_set_terms, named, tenant_state, PAYER),
    "tenant.set-status": Change(TenantSetStatus, tenant_set_status, named, tenant_state, OPERATOR),
    "container.list": Question(ContainerList, container_list, TENANT, container_list_of),
    "site.list": Question(SiteList, site_list),
    "container.set": Change(ContainerSet, container_set, named_container, container_state, OPERATOR),
    "container.export": Question(ContainerExport, container_export),
    "container.compare": Question(ContainerCompare, container_compare),
    "container.import": Change(ContainerImport, container_import, all_containers, container_state, OPERATOR),
    "container.remove": Change(ContainerRemove, container_remove, named_container, container_state, OPERATOR),
    "worker.list": Question(WorkerList, worker_list, TENANT, worker_list_of),
    "worker.show": Question(WorkerShow, worker_show, TENANT, worker_show_of),
    "worker.remove": Change(WorkerRemove, worker_remove, named_worker, worker_state, OPERATOR),
    "statement.show": Question(StatementShow, statement_show, TENANT, statement_of),
    "statement.file": Question(StatementFile, statement_file, TENANT, statement_of),
    "reject.show": Question(RejectShow, reject_show, TENANT, reject_show_of),
    "firmware.list": Question(FirmwareList, firmware_list),
    "trace.start": Change(TraceStart, trace_start, traced, no_state, OPERATOR, makes_books=False),
    "trace.show": Question(TraceShow, trace_show, OPERATOR),
    # Whose accounts upstreams have decides whom machines work for.
    "upstream.add": Guarded(
        UpstreamAdd, upstream_add, named, upstream_state, PAYER, without_secrets=without_passwords
    ),
    "upstream.list": Question(UpstreamList, upstream_list),
    "upstream.show": Question(UpstreamShow, upstream_show),
    "upstream.switch": Change(UpstreamSwitch, upstream_switch, named, upstream_state, OPERATOR),
    "upstream.remove": Guarded(UpstreamRemove, upstream_remove, named, upstream_state, PAYER),
    "order.add": Guarded(OrderAdd, order_add, named, order_state, PAYER),
    "order.list": Question(OrderList, order_list),
    "order.show": Question(OrderShow, order_show),
    "order.end": Guarded(OrderEnd, order_end, named, order_state, PAYER),
    # Whom an edge may count for decides who is paid; what it may no more waits for nobody.
    "edge.add": Guarded(EdgeAdd, edge_add, named, edge_state, PAYER),
    "edge.list": Question(EdgeList, edge_list),
    "edge.show": Question(EdgeShow, edge_show),
    "edge.set": Guarded(EdgeSet, edge_set, named, edge_state, PAYER),
    "edge.reset": Change(EdgeReset, edge_reset, named, edge_state, OPERATOR),
    "edge.release": Change(EdgeRelease, edge_release, named, edge_state, OPERATOR),
    "edge.retire": Change(EdgeRetire, edge_retire, named, edge_state, OPERATOR),
    "payout.preview": Question(PayoutPreview, payout_preview),
    "payout.list": Question(PayoutList, payout_list),
    "payout.show": Question(PayoutShow, payout_show),
    "payout.create": Change(
        PayoutCreate, payout_create, new_batch, newest_state, PAYER, makes_books=False, asks_nodes=True
    ),
    "payout.approve": Change(PayoutApprove, payout_approve, one_batch, batch_state, PAYER, makes_books=False),
    "payout.cancel": Change(PayoutCancel, payout_cancel, one_batch, batch_state, PAYER, makes_books=False),
    "payout.disown": Change(PayoutDisown, payout_disown, one_batch, batch_state, PAYER, makes_books=False),
    "payout.accept": Change(
        PayoutAccept, payout_accept, one_transaction, accepted_state, PAYER, makes_books=False
    ),
    "proposal.list": Question(ProposalList, proposal_list),
    "reversal.show": Question(ReversalShow, reversal_show),
    "reversal.propose": Change(
        ReversalPropose, reversal_propose, reversed_transaction, reversal_state, PAYER, makes_books=False
    ),
    "reversal.confirm": Change(
        ReversalConfirm, reversal_confirm, reversed_transaction, reversal_state, PAYER, makes_books=False
    ),
    "block.list": Question(BlockList, block_list),
    "user.add": Guarded(UserAdd, user_add, named, user_state, ADMIN),
    "user.list": Question(UserList, user_list),
    "user.show": Question(UserShow, user_show),
    "user.set-role": Guarded(UserSetRole, user_set_role, named, user_state, ADMIN),
    "user.set-status": Guarded(UserSetStatus, user_set_status, named, user_state, ADMIN, waits=lets_in),
    "token.create": Guarded(
        TokenCreate,
        token_create,
        tokens_of,
        token_state,
        TENANT,
        token_create_of,
        secret=True,
        waits=for_another,
    ),
    "token.list": Question(TokenList, token_list, TENANT, token_list_of),
    "token.revoke": Change(TokenRevoke, token_revoke, tokens_of, token_state, TENANT, token_revoke_of),
    "drain.begin": Change(DrainBegin, drain_begin, the_pool, no_state, OPERATOR, makes_books=False),
    "drain.end": Change(DrainEnd, drain_end, the_pool, no_state, OPERATOR, makes_books=False),
    "drain.show": Question(DrainShow, drain_show),
    "settings.reload": Change(
        SettingsReload, settings_reload, the_settings, no_state, OPERATOR, makes_books=False
    ),
    "message.list": Question(MessageList, message_list),
    "message.silence": Change(MessageSilence, message_silence, silenced, no_state, OPERATOR),
    "message.test": Question(MessageTest, message_test, OPERATOR, tells=True),
    "change.list": Question(ChangeList, change_list),
    "lease.show": Question(LeaseShow, lease_show, PAYER),  # for payouts, which write beside the pool
}
# They look the others up in the table that they are in themselves.
REQUESTS: Final = Requests(COMMANDS)
COMMANDS.update(
    {
        "request.list": Question(RequestList, REQUESTS.list_all),
        "request.show": Question(RequestShow, REQUESTS.show),
        "request.approve": Change(
            RequestApprove, REQUESTS.approve, request_of, request_state, PAYER, makes_books=False
        ),
        "request.withdraw": Change(
            RequestWithdraw, REQUESTS.withdraw, request_of, request_state, PAYER, makes_books=False
        ),
        "request.carry-out": Change(
            RequestCarryOut,
            REQUESTS.carry_out,
            request_of,
            request_state,
            PAYER,
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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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
    glass: str | None = None,
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
        return execute(Desk(store, of, None, paying, policy), name, body, caller, glass)
    finally:
        store.close()


def _network(store: Store, claimed: str | None) -> str | None:
    """For a question, which binds no book to what is claimed of it."""
    with store.read() as connection:
        return network_to_read(connection, claimed)
