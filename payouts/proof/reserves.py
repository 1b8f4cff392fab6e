"""A reserve: coins of ours whose keys signed a message about a day's root, published beside that root.

The message names the root, the total, our key, and a block (`angara_verify.reserve_message`). Signed is it as
BIP-322 has it for a proof of funds: `to_sign` spends `to_spend`, which has the message and is in no chain,
and every coin, so each signature is of the message, and moves nothing.

Invariants: what is noted was found right by `angara_verify`, which did not make it; rows are a chain by their
hashes. Must not know: keys of coins, nodes.
"""

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import Connection, insert, select

from payouts.batches.psbt import IN_FINAL_WITNESS, IN_WITNESS_UTXO, Spend, encode_psbt, witness_utxo
from payouts.batches.transaction import Tx, TxInput, TxOutput, compact_size, decode_transaction, sha256d
from payouts.proof.angara_verify import (
    VERSION,
    Keys,
    Report,
    Unreadable,
    canonical,
    check_reserve,
    reserve_message,
    row_hash,
    tagged,
)
from payouts.proof.key import ProofKey
from payouts.proof.links import next_link
from payouts.proof.roots import Root
from payouts.schemas.proof import reserves

TAG = "angara/reserve"
COINS_MAX = 1_000  # of a reserve: a transaction that spends them is one that signers take
OP_RETURN = b"\x6a"


class BadReserve(ValueError):
    """There is no reserve to be signed, or what was signed is none: why, in words."""


class ReserveCoin(msgspec.Struct, frozen=True, kw_only=True):
    """An output in a block of that height, and what its key signed."""

    txid: str
    vout: int
    amount_sat: int
    height: int
    witness: tuple[str, ...]


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """An address of the wallet, by its script, for which the message is signed first."""

    script: str
    witness: tuple[str, ...]


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it is published, and hashed: `hash` and `signature` are over all the rest. `transactions` made
    the coins; they are without witnesses, as they are hashed."""

    version: int
    number: int
    root: Root
    block_height: int
    block_header: str
    challenge: Challenge
    coins: tuple[ReserveCoin, ...]
    transactions: tuple[str, ...]
    total_sat: int
    key: str
    previous: str
    hash: str = ""
    signature: str = ""


class NotedReserve(msgspec.Struct, frozen=True, kw_only=True):
    """With who brought it in, and when."""

    reserve: Reserve
    made_by: str
    made_at_s: int


def message_of(root: Root, key: bytes, height: int, header: bytes) -> bytes:
    """What all keys sign."""
    block = sha256d(header)[::-1].hex()
    return reserve_message(msgspec.to_builtins(root), key.hex(), height, block)


def to_spend(message: bytes, script: bytes) -> Tx:
    """A transaction with the message, which pays nothing to the script."""
    signs = b"\x00\x20" + tagged("BIP0322-signed-message", message)
    return Tx(0, (TxInput("00" * 32, 0xFFFFFFFF, signs, 0),), (TxOutput(0, script),), 0)


def to_sign(coins: Sequence[Spend]) -> Tx:
    """The transaction that spends them all, and pays nobody."""
    inputs = tuple(TxInput(it.txid, it.vout, b"", 0) for it in coins)
    return Tx(0, inputs, (TxOutput(0, OP_RETURN),), 0)


def made(
    root: Root,
    height: int,
    header: bytes,
    challenge: bytes,
    coins: Mapping[Spend, int],
    sources: Mapping[str, Tx],
    signed: Tx,
    key: ProofKey,
    link: tuple[int, str],
) -> Reserve:
    """Of coins, with the heights of their blocks; `signed` is `to_sign` with their signatures, and `link` as
    payouts.proof.links.next_link has it. Raises BadReserve, NoSigning."""
    first, *others = ([it.hex() for it in one.witness] for one in signed.inputs)
    reserve = Reserve(
        version=VERSION,
        number=link[0],
        root=root,
        block_height=height,
        block_header=header.hex(),
        challenge=Challenge(script=challenge.hex(), witness=tuple(first)),
        coins=tuple(
            ReserveCoin(
                txid=it.txid, vout=it.vout, amount_sat=it.amount_sat, height=made_at, witness=tuple(witness)
            )
            for (it, made_at), witness in zip(coins.items(), others, strict=True)
        ),
        transactions=tuple(tx.stripped.hex() for tx in sources.values()),
        total_sat=sum(it.amount_sat for it in coins),
        key=key.public.hex(),
        previous=link[1],
    )
    digest = row_hash(TAG, msgspec.to_builtins(reserve))
    reserve = msgspec.structs.replace(reserve, hash=digest.hex(), signature=key.sign(digest).hex())
    _check(reserve, key)
    return reserve


def _check(reserve: Reserve, key: ProofKey) -> None:
    """As an auditor will."""
    report = Report()
    try:
        signed_sat = check_reserve(
            msgspec.json.decode(msgspec.json.encode(reserve)), report, Keys(key.public)
        )
    except Unreadable as error:
        raise BadReserve(str(error)) from None
    if report.wrong:
        raise BadReserve("; ".join(report.wrong[:3]))
    if signed_sat != reserve.total_sat:
        short_sat = reserve.total_sat - signed_sat
        raise BadReserve(f"coins of {short_sat} sat have scripts that `angara verify` cannot check")


def note(connection: Connection, it: Reserve, by: str, now_s: int) -> bool:
    """Write it down, unless another one was meanwhile, whose hash is not in it."""
    if (it.number, it.previous) != next_link(connection, reserves):
        return False
    connection.execute(
        insert(reserves).values(
            number=it.number,
            root_number=it.root.number,
            total_sat=it.total_sat,
            content=canonical(msgspec.to_builtins(it)).decode(),
            hash=it.hash,
            made_by=by,
            made_at_s=now_s,
        )
    )
    return True


def noted(connection: Connection, first: int = 1, at_most: int | None = None) -> tuple[NotedReserve, ...]:
    """From that number on. Raises ValueError where a row is none."""
    rows = connection.execute(
        select(reserves).where(reserves.c.number >= first).order_by(reserves.c.number).limit(at_most)
    )
    return tuple(
        NotedReserve(
            reserve=msgspec.json.decode(row.content, type=Reserve),
            made_by=row.made_by,
            made_at_s=row.made_at_s,
        )
        for row in rows
    )


def signature_of(reserve: Reserve) -> tuple[str, bytes]:
    """The message, and a finished PSBT: what any program that knows BIP-322 takes (`pof` and base64)."""
    challenge, header = bytes.fromhex(reserve.challenge.script), bytes.fromhex(reserve.block_header)
    message = message_of(reserve.root, bytes.fromhex(reserve.key), reserve.block_height, header)
    made_by = {it.txid: it for it in map(decode_transaction, map(bytes.fromhex, reserve.transactions))}
    spent = [Spend(to_spend(message, challenge).txid, 0, 0, challenge)]
    for coin in reserve.coins:
        script = made_by[coin.txid].outputs[coin.vout].script
        spent.append(Spend(coin.txid, coin.vout, coin.amount_sat, script))
    witnesses = (reserve.challenge.witness, *(it.witness for it in reserve.coins))
    inputs = [
        {IN_WITNESS_UTXO: witness_utxo(it), IN_FINAL_WITNESS: _stack(witness)}
        for it, witness in zip(spent, witnesses, strict=True)
    ]
    return message.decode(), encode_psbt(to_sign(spent), inputs, message)


def _stack(witness: Sequence[str]) -> bytes:
    parts = [bytes.fromhex(it) for it in witness]
    return compact_size(len(parts)) + b"".join(compact_size(len(it)) + it for it in parts)
