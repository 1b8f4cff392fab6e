"""Having coins of ours sign for a day's root: what signers are given, and what they returned.

What is given is a PSBT that moves nothing, of all coins that could be spent; nothing of it is kept here.
What comes back has to be that, of coins that are still there, signed by all their keys; it is signed with the
key of statements then, and noted.

Invariants: no coin is taken by a signer's word, nor one that is spent, or that a buyer paid. Must not know:
how files get to the signer, the keys of coins.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import structlog
import trio
from sqlalchemy import Connection

from payouts.batches.psbt import Psbt, Quarantined, Spend, decode_psbt, encode_psbt, read_signed
from payouts.batches.transaction import BadTransaction, Tx, decode_transaction
from payouts.proof.key import ProofKey
from payouts.proof.links import next_link, see_that_it_signs
from payouts.proof.reserves import (
    COINS_MAX,
    BadReserve,
    Reserve,
    made,
    message_of,
    note,
    noted,
    to_sign,
    to_spend,
)
from payouts.proof.roots import newest_root, root_named
from payouts.sales.deposits import scripts
from payouts.schemas.proof import reserves
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import ChainNode, Coin, PayoutNodes
from pool.treasury.coins import CONFIRMATIONS_MIN, TooFewCoins, spendable
from pool.treasury.wallet import BadWallet, PayoutWallet, combine, finalise

log = structlog.get_logger()

FILES_MAX: Final = 20  # signers of one wallet, and what they were given
PREFIX: Final = b"pof"  # of BIP-322, before base64
# Where the message names its root and its block.
NAMES: Final = re.compile(rb"; root ([0-9a-f]{64}); key [0-9a-f]{64}; block (\d{1,9}) [0-9a-f]{64}")


class ForSigner(msgspec.Struct, frozen=True, kw_only=True):
    """What a signer is given: the PSBT, the message that it shows, and the address that it shows it for."""

    psbt: bytes
    message: str
    address: str
    coins: int
    total_sat: int
    owed_sat: int
    left_out: int  # coins, which are smaller, or not deep enough


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What was noted. Not `fresh`: the same coins signed the same before."""

    reserve: Reserve
    fresh: bool


class Reserves:
    """Of the payout wallet, and of `others` where some are named: each signs for its own coins."""

    def __init__(self, books: PayoutBooks, nodes: PayoutNodes, wallet: PayoutWallet) -> None:
        self._books, self._nodes, self._wallet = books, nodes, wallet

    async def export(
        self, key: bytes, most: int = COINS_MAX, others: Sequence[PayoutWallet] = ()
    ) -> ForSigner:
        """For the newest root, and the public key that will sign it: of so many coins at most, the largest.
        Raises BadReserve, TooFewCoins, NodeError."""
        root = await self._books.read(newest_root)
        if root is None:
            raise BadReserve("no day was closed yet: a reserve is beside a root, see `angara proof roots`")
        node = await self._nodes.first()
        found = await node.coins(self._scanned(others))
        await self._see_that_none_is_a_buyers(found)
        deep = sorted(spendable(found), key=lambda it: (-it.amount_sat, it.txid, it.vout))[:most]
        if not deep:
            raise TooFewCoins("the wallet has no coins that can be spent yet")
        height = deep[0].height + deep[0].confirmations - CONFIRMATIONS_MIN
        message = message_of(root, key, height, await node.block_header(height))
        coins, sources = _spends(deep), await self._sources(node, deep)
        first = to_spend(message, self._wallet.first_script)
        spent = [Spend(first.txid, 0, 0, self._wallet.first_script), *coins]
        try:
            known = await trio.to_thread.run_sync(
                _known_of, (self._wallet, *others), spent, {first.txid: first, **sources}
            )
            psbt = encode_psbt(to_sign(spent), known, message)
            decode_psbt(psbt)
        except (BadTransaction, BadWallet) as error:
            raise BadReserve(f"{error}: ask for fewer coins, or gather them into fewer first") from None
        log.info("reserve_asked_for", root=root.number, coins=len(coins))
        return ForSigner(
            psbt=psbt,
            message=message.decode(),
            address=self._wallet.first_address,
            coins=len(coins),
            total_sat=sum(it.amount_sat for it in coins),
            owed_sat=root.total_sat,
            left_out=len(found) - len(coins),
        )

    async def receive(
        self, files: Sequence[bytes], key: ProofKey, by: str, others: Sequence[PayoutWallet] = ()
    ) -> Taken:
        """What signers returned of one PSBT, all of it together. Raises BadReserve, NoSigning, NodeError."""
        try:
            psbt = await trio.to_thread.run_sync(_together, files)
            signed = decode_transaction(await trio.to_thread.run_sync(finalise, psbt.raw, psbt.raw))
        except (Quarantined, BadTransaction) as error:
            raise BadReserve(str(error)) from None
        message = psbt.message or b""
        names = NAMES.search(message)
        if names is None:
            raise BadReserve(
                "there is no message in it: give what was exported too, and what came back after it"
            )
        before = await self._books.read(_same_before, message, psbt.tx)
        if before is not None:
            return Taken(reserve=before, fresh=False)
        root = await self._books.read(root_named, names[1].decode())
        if root is None:
            raise BadReserve("its message names a root that is none of these books")
        node, height = await self._nodes.first(), int(names[2])
        header = await node.block_header(height)
        if message != message_of(root, key.public, height, header):
            raise BadReserve("its message is another than this pool's, with this key, of this chain")
        deep = await self._coins(node, psbt.tx, height, others)
        coins, challenge = _spends(deep), self._wallet.first_script
        if psbt.tx != to_sign([Spend(to_spend(message, challenge).txid, 0, 0, challenge), *coins]):
            raise BadReserve("it is not the transaction that was exported")
        sources = await self._sources(node, deep)
        heights = {spend: coin.height for spend, coin in zip(coins, deep, strict=True)}
        await self._books.read(see_that_it_signs, key)
        link = await self._books.read(next_link, reserves)
        reserve = await trio.to_thread.run_sync(
            made, root, height, header, challenge, heights, sources, signed, key, link
        )
        if not await self._books.write(note, reserve, by, self._books.now_s()):
            raise BadReserve("another reserve was brought in meanwhile: bring this one in again")
        log.info("reserve_noted", reserve=reserve.number, root=root.number, total_sat=reserve.total_sat)
        return Taken(reserve=reserve, fresh=True)

    def _scanned(self, others: Sequence[PayoutWallet]) -> list[dict[str, object]]:
        return [scanned for it in (self._wallet, *others) for scanned in it.scan_objects]

    async def _coins(
        self, node: ChainNode, tx: Tx, height: int, others: Sequence[PayoutWallet]
    ) -> tuple[Coin, ...]:
        """What it spends beside the message, each once, as the chain has it now."""
        there = {(it.txid, it.vout): it for it in await node.coins(self._scanned(others))}
        found = []
        for it in tx.inputs[1:]:
            coin = there.pop((it.txid, it.vout), None)
            if coin is None:
                raise BadReserve(
                    f"coin {it.txid}:{it.vout} is spent by now, there twice, or of no wallet that is named"
                )
            if coin.height > height:
                raise BadReserve(f"coin {it.txid}:{it.vout} is in a block after the one that is named")
            found.append(coin)
        await self._see_that_none_is_a_buyers(found)
        return tuple(found)

    async def _see_that_none_is_a_buyers(self, coins: Sequence[Coin]) -> None:
        """By its script, whichever descriptor it came under, and whether or not the settings have one of
        deposits by now. Raises BadReserve."""
        order_of = await self._books.read(scripts)
        for it in coins:
            if it.script in order_of:
                raise BadReserve(
                    f"coin {it.txid}:{it.vout} is what a buyer paid, at the address of order"
                    f" {order_of[it.script]}: coins of buyers are in no reserve"
                )

    async def _sources(self, node: ChainNode, coins: Sequence[Coin]) -> dict[str, Tx]:
        """The transactions that made them, by txid."""
        heights = {it.txid: it.height for it in coins}
        return {txid: await node.transaction(txid, height) for txid, height in heights.items()}


def _spends(coins: Sequence[Coin]) -> list[Spend]:
    return [Spend(it.txid, it.vout, it.amount_sat, it.script) for it in coins]


def _known_of(
    wallets: Sequence[PayoutWallet], spent: Sequence[Spend], sources: Mapping[str, Tx]
) -> list[Mapping[bytes, bytes]]:
    """What the signer of each coin has to know of it. Raises BadWallet, BadTransaction."""
    known: dict[Spend, Mapping[bytes, bytes]] = {}
    for wallet in wallets:
        own = [it for it in spent if it not in known and wallet.is_own(it.script)]
        if own:
            known.update(zip(own, wallet.known_of(own, sources), strict=True))
    return [known[it] for it in spent]


def _together(files: Sequence[bytes]) -> Psbt:
    """Raises Quarantined, BadTransaction."""
    raw = []
    for data in files:
        read = read_signed(data.lstrip().removeprefix(PREFIX))
        if not isinstance(read, Psbt):
            raise BadTransaction("a signer returns a PSBT here, and this is a transaction")
        raw.append(read.raw)
    return decode_psbt(combine(raw))


def _same_before(connection: Connection, message: bytes, tx: Tx) -> Reserve | None:
    """The newest one, where it is of the same coins, which signed the same message."""
    last, _ = next_link(connection, reserves)
    for it in noted(connection, last - 1):
        of = it.reserve
        said = message_of(of.root, bytes.fromhex(of.key), of.block_height, bytes.fromhex(of.block_header))
        spent = [(coin.txid, coin.vout) for coin in of.coins]
        if said == message and spent == [(one.txid, one.vout) for one in tx.inputs[1:]]:
            return of
    return None
