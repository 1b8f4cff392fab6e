"""`angara check`: what would go wrong if the pool were started with these settings, in words.

Looks, and changes nothing: addresses are bound for a moment, nodes are asked who they are and for a
template, the book is read, the data directory (or where it will be made) is tried with a file that is removed
again. A pool may run meanwhile: addresses that are in use are no mistake then, as they are its own.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import msgspec
import trio

from pool.books.opening import look
from pool.chain.networks import NETWORKS
from pool.chain.nodes import Node, NodeConfig, check_chain
from pool.chain.rpc import NodeError
from pool.chain.zmq_watch import ZmqUnusable, look_for_publisher
from pool.config import PoolConfig
from pool.data_dir import DataDirError, admin_socket, is_held, is_of
from pool.messages.messenger import receivers_of
from pool.power.control.passwords import read_keys
from pool.power.signals.files_check import look_at_files
from pool.proof_key import read_proof_key
from pool.settings_file import BadConfig
from pool.settings_tables import STAMPS_MISSING
from pool.sites.access import access
from pool.sites.nats import subjects
from pool.sites.nats.connection import Connection
from pool.store_error import StoreError
from pool.treasury.deposits import addresses_of
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import BadWallet, PayoutWallet
from stratum.miners.listening.certificate import BadCertificate, Certificate
from stratum.miners.listening.listeners import BadEndpoint, Endpoint, open_listener

CHECK_TIMEOUT_S = 35.0  # a little more than one answer of a node may take


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    good: bool
    subject: str
    text: str


async def check_pool(config: PoolConfig) -> list[Finding]:
    """Everything that can be looked at without starting; what may take its time at once."""
    findings = [_data_dir(config), *_admin_group(config), *_endpoints(config)]
    findings += await trio.to_thread.run_sync(_database, config)
    findings += [*_messages(config), *_proof(config), Finding(True, "approval", config.approval.words)]
    findings += await trio.to_thread.run_sync(_payouts, config)
    findings += await trio.to_thread.run_sync(_power, config)
    looks = [partial(_nats, config)]
    for node in config.nodes:
        looks.append(partial(_node, node, config.network))
        if node.zmq_hashblock is not None:
            looks.append(partial(_zmq, node.name, node.zmq_hashblock))
    return findings + await _at_once(looks)


async def _at_once(looks: Sequence[Callable[[], Awaitable[list[Finding]]]]) -> list[Finding]:
    """What they find, in their order."""
    found: list[list[Finding]] = [[] for _ in looks]

    async def put(at: int) -> None:
        found[at] = await looks[at]()

    async with trio.open_nursery() as nursery:
        for at in range(len(looks)):
            nursery.start_soon(put, at)
    return [it for of_one in found for it in of_one]


def _data_dir(config: PoolConfig) -> Finding:
    path, network = config.data_dir, config.network
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    try:
        admin_socket(path)
        is_of(path, network, NETWORKS[network].genesis)
        with tempfile.TemporaryFile(dir=there):
            pass
    except DataDirError as error:
        return Finding(False, "data_dir", str(error))
    except OSError as error:
        return Finding(False, "data_dir", f"cannot write to {there}: {error.strerror}")
    return Finding(True, "data_dir", str(path) if there == path else f"{path}, will be made")


def _database(config: PoolConfig) -> list[Finding]:
    """An edge has none."""
    if config.site is not None:
        return []
    try:
        return [Finding(True, "database", look(config.database_url, config.network))]
    except StoreError as error:
        return [Finding(False, "database", " ".join(str(error).split()))]  # a server says it in lines


def _admin_group(config: PoolConfig) -> list[Finding]:
    """Whether the socket can be the group's, and whether who is in it comes as far as that."""
    group, path = config.admin_group, config.data_dir
    if group is None:
        return []
    if os.geteuid() != 0 and group not in {os.getegid(), *os.getgroups()}:
        words = f"the account that runs the pool is to be in group {group} itself"
        return [Finding(False, "admin.group", words)]
    if path.exists() and not (path.stat().st_gid == group and path.stat().st_mode & stat.S_IXGRP):
        words = f"nobody in it comes as far as the socket: chgrp {group} {path}; chmod 0710 {path}"
        return [Finding(False, "admin.group", words)]
    return [Finding(True, "admin.group", f"{group}, may connect to {admin_socket(path)}")]


def _messages(config: PoolConfig) -> list[Finding]:
    """Whether something can be made of every address; `angara message test` sends to them."""
    if config.messages is None:
        return []
    try:
        receivers = receivers_of(config.messages)
    except BadConfig as error:
        return [Finding(False, "messages", str(error))]
    return [Finding(True, "messages", f"{len(receivers)} are told: {', '.join(it.name for it in receivers)}")]


async def _nats(config: PoolConfig) -> list[Finding]:
    """Whether a server lets an edge, or a hub, in."""
    if config.site is not None:
        name, settings = config.site.name, config.site.nats
    elif config.hub is not None:
        name, settings = subjects.HUB, config.hub
    else:
        return []
    try:
        connection = Connection(access(settings, name))
    except BadConfig as error:
        return [Finding(False, "nats", str(error))]
    async with trio.open_nursery() as nursery:
        await nursery.start(connection.run)
        with trio.move_on_after(CHECK_TIMEOUT_S):
            await connection.connected()
        state = connection.state
        nursery.cancel_scope.cancel()
    if not state.connected:
        return [Finding(False, "nats", state.error or f"no answer within {CHECK_TIMEOUT_S:g} s")]
    return [Finding(True, "nats", f"{state.url} lets {name} in")]


def _payouts(config: PoolConfig) -> list[Finding]:
    """Whether the wallet can be read; where its coins go to, by which a person knows it again. The same of
    where buyers of orders pay."""
    if config.payouts is None:
        return []
    try:
        wallet = PayoutWallet(msgspec.structs.replace(config.payouts, addresses=1), config.network)
    except BadWallet as error:
        return [Finding(False, "payouts", str(error))]
    found = [Finding(True, "payouts", f"from a wallet whose first address is {wallet.first_address}")]
    if config.payouts.deposit_descriptor is not None:
        found.append(_deposits(config.payouts, config.network, wallet))
    return found


def _deposits(settings: PayoutSettings, network: str, wallet: PayoutWallet) -> Finding:
    subject = "payouts.deposit_descriptor"
    try:
        first, _ = addresses_of(settings, network, wallet).derive(0)
    except BadWallet as error:
        return Finding(False, subject, str(error).removeprefix(f"{subject}: "))
    deep = settings.deposit_confirmations
    return Finding(True, subject, f"buyers pay from {first} on, and it is booked {deep} blocks deep")


def _proof(config: PoolConfig) -> list[Finding]:
    """The key, by which clients know what it signs. Calendars are asked by a command, and not here."""
    if config.proof_key_file is None:
        return []
    try:
        key = read_proof_key(config.proof_key_file, config.proof_former_files, config.proof_lost_key)
    except BadConfig as error:
        findings = [Finding(False, "proof", str(error))]
    else:
        findings = [Finding(True, "proof", f"signed by the key {key.public.hex()}")]
    if config.proof_calendars:
        there, words = find_spec("opentimestamps") is not None, f"{len(config.proof_calendars)} are named"
        findings.append(Finding(there, "proof.calendars", words if there else STAMPS_MISSING))
    return findings


def _power(config: PoolConfig) -> list[Finding]:
    """What opens machines' passwords, and the files of who may ask for events."""
    findings = []
    if config.control is not None and config.control.key_file is not None:
        try:
            read_keys(config.control.key_file)
        except BadConfig as error:
            findings.append(Finding(False, "power.key_file", str(error).removeprefix("power.key_file: ")))
        else:
            findings.append(Finding(True, "power.key_file", f"{config.control.key_file} has a key"))
    if config.signals is not None:
        findings += [Finding(it.good, it.setting, it.words) for it in look_at_files(config.signals)]
    return findings


def _endpoints(config: PoolConfig) -> Iterator[Finding]:
    """Each is open until all are looked at: one that another of these is in the way of is in use by then."""
    runs, seen = is_held(config.data_dir), set[tuple[str, int]]()
    with ExitStack() as open_ones:
        for endpoint in config.endpoints if config.web is None else (*config.endpoints, config.web):
            subject, address = f"listen {endpoint.host}:{endpoint.port}", (endpoint.host, endpoint.port)
            if endpoint.port and address in seen:
                yield Finding(False, subject, "these settings name it twice, and one can listen there")
            else:
                yield _endpoint(subject, endpoint, open_ones, config.data_dir if runs else None)
            seen.add(address)


def _endpoint(subject: str, endpoint: Endpoint, open_ones: ExitStack, pool_runs_on: Path | None) -> Finding:
    found = "free"
    try:
        try:
            open_ones.enter_context(open_listener(endpoint))
        except BadEndpoint as error:
            if pool_runs_on is None or getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
                raise
            found = f"in use, while a pool runs on {pool_runs_on}"
        if endpoint.certificate is None:
            return Finding(True, subject, found)
        certificate = Certificate(endpoint.certificate, endpoint.key)
    except (BadEndpoint, BadCertificate) as error:
        return Finding(False, subject, str(error))
    if certificate.problem is not None:
        return Finding(False, subject, f"{endpoint.certificate}: {certificate.problem}")
    return Finding(True, subject, f"{found}, TLS with a certificate until {certificate.until}")


async def _node(config: NodeConfig, network: str) -> list[Finding]:
    node = Node(config)
    subject = f"node {config.name}"
    try:
        with trio.fail_after(CHECK_TIMEOUT_S):
            status = await check_chain(node, network)
            template = await node.template(chain=network)
    except NodeError as error:
        return [Finding(False, subject, str(error))]
    except trio.TooSlowError:
        return [Finding(False, subject, f"no answer within {CHECK_TIMEOUT_S:g} s")]
    finally:
        await node.aclose()
    words = (
        f"{status.agent} on {status.chain}, height {status.height}, {status.connections} connections, "
        f"template of {len(template.transactions)} transactions"
    )
    return [Finding(True, subject, words)]


async def _zmq(name: str, url: str) -> list[Finding]:
    """Without it blocks of others are heard of later, by longpoll alone, and nothing says so."""
    subject = f"node {name} zmq_hashblock"
    try:
        await look_for_publisher(url)
    except ZmqUnusable as error:
        return [Finding(False, subject, str(error))]
    return [Finding(True, subject, f"{url} publishes")]
