"""A payout's whole world: a regtest node without sockets, tenants with balances, a signer, and faults.

The signer is a wallet of its own (bdkpython with private keys): it sees PSBTs and nothing else. The node is
the embedded one, on Bitcoin Core's consensus code, so what it takes into a block was really signed. The
fixtures are in `tests/conftest.py`.
"""

import base64
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import bdkpython as bdk
import httpx
import msgspec
from sqlalchemy import Connection, insert, select

from payouts.accrual import settle
from payouts.audit.verify import audit
from payouts.batches.batch import Batch, batches_in, load
from payouts.batches.psbt import Spend
from payouts.batches.transaction import Tx, TxInput, TxOutput, decode_transaction, outpoint
from payouts.ledger import (
    balances_sat,
    open_accounts,
)
from payouts.ratebook import record_rate
from payouts.rates import Price, Scheme
from payouts.schemas.money import containers, tenant_addresses, tenant_terms, tenants, workers
from payouts.tallies import ACCEPTED, Tally, record
from pool.books.store import Store
from pool.chain.addresses import script_for
from pool.chain.nodes import Node, NodeConfig
from pool.chain.rpc import Credentials, RpcClient
from pool.regtest.chain import Chain
from pool.regtest.coin_methods import CoinMethods
from pool.regtest.jsonrpc import JsonRpc
from pool.regtest.mempool import COINBASE_MATURITY, Mempool
from pool.regtest.methods import Methods
from pool.regtest.node import Node as EmbeddedNode
from pool.regtest.wallet import FILLER_SCRIPT, WITNESS_SCRIPT
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import PayoutNodes
from pool.treasury.paymaster import Paymaster
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import PayoutWallet, finalise
from tests.stages.regtest import RULES, block_hash, build_block

NOW_S = 1_900_000_000
MNEMONIC = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
ADDRESSES = 20  # of each descriptor
COIN_SAT = 3_000_000
COINS = 3
FUNDING_FEE_SAT = 10_000
# Of a pool that pays out, in TOML; `World.settings_at` fills them in.
SETTINGS = """
[pool]
network = "regtest"
data_dir = "data"
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"

[[node]]
name = "one"
url = "http://127.0.0.1:{port}"
user = "u"
password = "p"

[payouts]
descriptor = "{descriptor}"
change_descriptor = "{change_descriptor}"
fee_rate_sat_vb = 2
addresses = 20
"""
# p2wpkh, p2tr and p2sh on regtest: the example keys of BIP-173 and BIP-350, and the hash of nothing.
PAYEES = (
    ("acme", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", 700_001),
    ("borealis", "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6", 1_200_002),
    ("cinder", "2MsFDzHRUAMpjHxKyoEHU3aMCMsVtMqs1PV", 900_003),
)
PAID_SAT = {name: sat for name, _, sat in PAYEES}
CREATOR, APPROVER = "ann", "bob"
FEE_CAP_SAT = 50_000
MINER = b"\x00\x14" + bytes(20)  # nobody's: blocks of the tests pay it
NODE = NodeConfig(name="one", url="http://node", user="u", password="p")
SEND = "sendrawtransaction"


class Killed(BaseException):
    """The process is gone."""


class Faults:
    """What goes wrong, at points: before and after every commit and every call.

    `kill_at` is the number of one point, over a whole run. `everywhere` is every point once: a step of the
    operator is killed at its first point, and when it is taken again at its second, and so on. With
    `replies` the process lives, and the node's reply is lost: it did what it was asked.
    """

    def __init__(
        self, kill_at: int | None = None, *, everywhere: bool = False, replies: bool = False
    ) -> None:
        self.points: list[str] = []
        self.struck = 0
        self._kill_at = kill_at
        self._everywhere = everywhere
        self._replies = replies
        self._step = ""
        self._at = 0
        self._survived: dict[str, int] = {}

    def begin(self, step: str) -> None:
        """A step is taken, perhaps again."""
        self._step, self._at = step, 0

    def point(self, name: str) -> None:
        """Something is about to be done, or was just done."""
        number = len(self.points)
        self.points.append(name)
        if self._everywhere:
            strikes = self._at == self._survived.get(self._step, 0)
            self._at += 1
            if strikes:
                self._survived[self._step] = self._at
        else:
            strikes = number == self._kill_at
        if not strikes:
            return
        if self._replies and name.startswith("after call"):
            self.struck += 1
            raise httpx.ReadError("the reply is lost")
        if not self._replies:
            self.struck += 1
            raise Killed(name)


class FaultyStore(Store):
    """A database whose user dies before or after a commit."""

    def __init__(self, store: Store, faults: Faults) -> None:
        super().__init__(store.engine)
        self._faults = faults

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
            self._faults.point("before commit")
        self._faults.point("after commit")


class Wire(httpx.AsyncBaseTransport):
    """From the client to the embedded node, without sockets."""

    def __init__(self, rpc: JsonRpc, faults: Faults) -> None:
        self._rpc = rpc
        self._faults = faults
        self.down = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        method = msgspec.json.decode(body)["method"]
        if self.down:
            raise httpx.ConnectError("the node is down")
        self._faults.point(f"before call {method}")
        reply = await self._rpc.answer(body)
        self._faults.point(f"after call {method}")
        return httpx.Response(reply.status, stream=httpx.ByteStream(reply.body))


class Signer:
    """A descriptor wallet with private keys, on another machine."""

    def __init__(self, receive: str, change: str) -> None:
        self._descriptors = [bdk.Descriptor(text, bdk.NetworkKind.TEST) for text in (receive, change)]
        self._wallet = bdk.Wallet(*self._descriptors, bdk.Network.REGTEST, bdk.Persister.new_in_memory(), 30)

    def public(self) -> tuple[str, str]:
        """What the pool may know."""
        receive, change = (str(it.as_public()) for it in self._descriptors)
        return receive, change

    def script(self, index: int, *, change: bool = False) -> bytes:
        """One of its addresses."""
        address = self._descriptors[change].derive_address(index, bdk.Network.REGTEST)
        return bytes(address.script_pubkey().to_bytes())

    def address(self, index: int) -> str:
        """The same, as people write it."""
        return str(self._descriptors[0].derive_address(index, bdk.Network.REGTEST))

    def sign(self, psbt: bytes, *, finalise: bool = True) -> bytes:
        """The PSBT with this wallet's signatures."""
        signed = bdk.Psbt(base64.b64encode(psbt).decode())
        options = bdk.SignOptions(
            trust_witness_utxo=False,
            assume_height=None,
            allow_all_sighashes=False,
            try_finalize=finalise,
            sign_with_tap_internal_key=True,
            allow_grinding=True,
        )
        self._wallet.sign(signed, options)
        return base64.b64decode(signed.serialize())


def private_descriptors(kind: str, account: int) -> tuple[str, str]:
    """Receive and change descriptors of an account: "wpkh", "tr", or "wsh", of which two of two keys sign."""
    words = bdk.Mnemonic.from_string(MNEMONIC)
    root, other = (
        str(bdk.DescriptorSecretKey(bdk.NetworkKind.TEST, words, password)).removesuffix("/*")
        for password in (None, "other")
    )
    if kind == "wsh":
        keys = ",".join(f"{it}/48'/1'/{account}'/BRANCH/*" for it in (root, other))
        receive, change = (f"wsh(sortedmulti(2,{keys}))".replace("BRANCH", it) for it in "01")
        return receive, change
    purpose = {"wpkh": 84, "tr": 86}[kind]
    receive, change = (f"{kind}({root}/{purpose}'/1'/{account}'/{branch}/*)" for branch in (0, 1))
    return receive, change


class Regtest:
    """One chain for many worlds, each with a wallet of its own and a memory pool of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.chain = Chain(data_dir)
        EmbeddedNode(self.chain, template_txs=1, nbits=None).prepare()
        self.accounts = itertools.count()

    def close(self) -> None:
        self.chain.close()


class World:
    """A wallet with coins on the chain, three tenants with balances, and somebody to do each thing."""

    def __init__(
        self, regtest: Regtest, store: Store, kind: str = "wpkh", faults: Faults | None = None
    ) -> None:
        self.chain = regtest.chain
        self.store = store
        self.faults = faults or Faults()
        self.now_s = NOW_S
        self.node = EmbeddedNode(regtest.chain, template_txs=0, nbits=None)
        served = {**Methods(self.node).by_name(), **CoinMethods(self.node).by_name()}
        self.rpc_server = JsonRpc(served, last="stop")
        self.wire = Wire(self.rpc_server, self.faults)
        self.clients = [Node(NODE, transport=self.wire)]
        credentials = Credentials(user="u", password="p")
        self.rpc = RpcClient(NODE.url, credentials, transport=Wire(self.rpc_server, Faults()))
        self.account = next(regtest.accounts)
        self.signer = Signer(*private_descriptors(kind, self.account))
        receive, change = self.signer.public()
        self.settings = PayoutSettings(
            descriptor=receive, change_descriptor=change, fee_rate_sat_vb=2, addresses=ADDRESSES
        )
        self.wallet = PayoutWallet(self.settings, "regtest")
        self.paid_before_sat = self.received_sat()
        self._reorganisations = 0

    def settings_at(self, port: int) -> str:
        """What a process reads that has a node there, user u with password p."""
        it = self.settings
        return SETTINGS.format(port=port, descriptor=it.descriptor, change_descriptor=it.change_descriptor)

    def paymaster(self) -> Paymaster:
        """A process that was just started."""
        books = PayoutBooks(FaultyStore(self.store, self.faults), lambda: self.now_s)
        return Paymaster(books, self.nodes(), self.wallet, self.settings, script_of)

    def nodes(self) -> PayoutNodes:
        """The nodes that payouts ask."""
        return PayoutNodes(self.clients, "regtest")

    async def mine(self, blocks: int = 1) -> None:
        """Blocks of what the memory pool has."""
        for _ in range(blocks):
            await self.node.generate(MINER)

    async def reorganise(self, depth: int) -> None:
        """The last blocks are replaced by one more, all empty; their transactions are pending again. No block
        is one of those that did so before."""
        self._reorganisations += 1
        miner = MINER[:2] + self._reorganisations.to_bytes(20, "big")
        height = self.chain.tip.height - depth
        prev = (self.chain.hash_at(height) or b"")[::-1].hex()
        template = await self.rpc.call("getblocktemplate", RULES)
        for number in range(1, depth + 2):
            time_s = template["curtime"] + number
            block = build_block(
                template, prev=prev, height=height + number, block_time=time_s, txs=[], script=miner
            )
            verdict = await self.rpc.call("submitblock", block)
            assert verdict in (None, "inconclusive")
            prev = block_hash(block)
        assert self.chain.tip.hash_internal[::-1].hex() == prev

    def forget_pending(self) -> None:
        """The node was restarted, and has lost its memory pool."""
        self.node.mempool = Mempool(self.chain)

    def pending(self) -> list[str]:
        """The txids in the memory pool."""
        return [it.txid[::-1].hex() for it in self.node.mempool.pending()]

    async def fund(self, *outputs: TxOutput, deep: int = 6) -> Tx:
        """Coins for the wallet (COINS of COIN_SAT where nothing is said), so many blocks deep."""
        paid = outputs or [TxOutput(COIN_SAT, self.signer.script(index)) for index in range(COINS)]
        paid_sat = sum(it.amount_sat for it in paid) + FUNDING_FEE_SAT
        key, coin = next(
            (key, coin)
            for key, coin in self.chain.coins.items()
            if coin.script == FILLER_SCRIPT
            and coin.amount_sat > paid_sat
            and (not coin.coinbase or self.chain.tip.height - coin.height >= COINBASE_MATURITY - 1)
        )
        vout = int.from_bytes(key[32:], "little")
        source = TxInput(key[:32][::-1].hex(), vout, b"", 0xFFFFFFFF, (WITNESS_SCRIPT,))
        tx = Tx(2, (source,), (*paid, TxOutput(coin.amount_sat - paid_sat, FILLER_SCRIPT)), 0)
        await self.rpc.call(SEND, tx.raw.hex(), 0)
        await self.mine(deep)
        return tx

    async def spend(self, coin: Spend, *outputs: TxOutput) -> str:
        """The wallet's owner spends a coin with other software: the txid, pending."""
        source = await self.rpc.call("gettxout", coin.txid, coin.vout)
        assert source is not None
        header = self.chain.hash_at(self.chain.coins[outpoint(coin.txid, coin.vout)].height) or b""
        raw = await self.rpc.call("getrawtransaction", coin.txid, 0, header[::-1].hex())
        psbt = self.wallet.build([coin], {coin.txid: decode_transaction(bytes.fromhex(raw))}, outputs)
        txid: str = await self.rpc.call(SEND, finalise(psbt, self.signer.sign(psbt)).hex(), 0)
        return txid

    def received_sat(self) -> dict[str, int]:
        """What every payee's script has on the chain, by tenant."""
        scripts = {script_of(address): name for name, address, _ in PAYEES}
        found = dict.fromkeys(scripts.values(), 0)
        for coin in self.chain.coins.values():
            if coin.script in scripts:
                found[scripts[coin.script]] += coin.amount_sat
        return found

    def paid_sat(self) -> dict[str, int]:
        """What every payee got in this world."""
        return {name: sat - self.paid_before_sat[name] for name, sat in self.received_sat().items()}

    def wallet_sat(self) -> int:
        """What the payout wallet has on the chain."""
        own = {self.signer.script(index, change=it) for index in range(ADDRESSES) for it in (False, True)}
        return sum(coin.amount_sat for coin in self.chain.coins.values() if coin.script in own)

    def balances(self) -> dict[str, int]:
        """The books' balances that are not zero, once they were audited."""
        with self.store.read() as connection:
            assert audit(connection).wrong is None
            return {account: sat for account, sat in balances_sat(connection).items() if sat}

    def batch(self, batch_id: int = 1) -> Batch:
        with self.store.read() as connection:
            return load(connection, batch_id)

    def batches(self) -> tuple[Batch, ...]:
        with self.store.read() as connection:
            return batches_in(connection)

    async def aclose(self) -> None:
        for client in self.clients:
            await client.aclose()
        await self.rpc.aclose()


@asynccontextmanager
async def world_of(
    regtest: Regtest, store: Store, kind: str = "wpkh", faults: Faults | None = None
) -> AsyncIterator[World]:
    """A world with coins, and three tenants to be paid."""
    world = World(regtest, store, kind, faults)
    register(store)
    await world.fund()
    try:
        yield world
    finally:
        await world.aclose()


def script_of(address: str) -> bytes:
    return script_for(address, "regtest")


def register(store: Store, payees: Sequence[tuple[str, str, int]] = PAYEES, *, now_s: int = NOW_S) -> None:
    """Tenants with addresses in force, and what the pool owes them."""
    with store.write() as connection:
        for name, address, sat in payees:
            tenant_id = add_tenant(connection, name)
            set_address(connection, tenant_id, address)
            credit(connection, tenant_id, sat, f"work of {name}", now_s=now_s)


def add_tenant(connection: Connection, name: str, *, status: str = "active", minimum_sat: int = 1_000) -> int:
    row = connection.execute(
        insert(tenants).values(name=name, status=status, created_at_s=0).returning(tenants.c.id)
    ).one()
    connection.execute(
        insert(tenant_terms).values(
            tenant_id=row.id,
            scheme="pps",
            fee_bps=0,
            payout_minimum_sat=minimum_sat,
            changed_at_s=0,
            changed_by="ann",
        )
    )
    open_accounts(connection, row.id)
    return int(row.id)


def set_address(connection: Connection, tenant_id: int, address: str, effective_at_s: int = 0) -> None:
    connection.execute(
        insert(tenant_addresses).values(
            tenant_id=tenant_id,
            address=address,
            changed_at_s=0,
            changed_by="ann",
            effective_at_s=effective_at_s,
        )
    )


def credit(connection: Connection, tenant_id: int, sat: int, key: str, *, now_s: int = NOW_S) -> None:
    """Work that is worth so much, counted and settled: a share that is sure to be a block of so much."""
    worker_id = connection.scalar(select(workers.c.id).where(workers.c.tenant_id == tenant_id))
    if worker_id is None:
        seen: dict[str, Any] = {"tenant_id": tenant_id, "first_seen_at_s": 0, "last_seen_at_s": 0}
        connection.execute(
            insert(containers).values(id=tenant_id, tenant_id=tenant_id, name="c01", created_at_s=0)
        )
        connection.execute(insert(workers).values(id=tenant_id, container_id=tenant_id, unit="u1", **seen))
        worker_id = tenant_id
    price = Price(scheme=Scheme.PPS, nbits=0x207FFFFF, subsidy_sat=sat, block_fees_sat=0, fee_bps=0)
    tally = Tally(
        worker_id=worker_id,
        rate_id=record_rate(connection, tenant_id, price, 1, None, now_s),
        minute=now_s // 60 - 120,
        difficulty_log2=0,
        verdict=ACCEPTED,
        shares=1,
    )
    record(connection, key, 1, [tally])
    settle(connection, now_s)
