"""Block templates: what a node's getblocktemplate offers, checked once and made into work for miners.

Invariants: a `Template` is complete and consistent (types, ranges, target equal to bits, every rule that
must be understood is); whatever is wrong with the node's answer is a BadTemplate that names the field. All
hex is decoded here, so that nothing can turn out malformed once a block is found.

Must not know: which node answered, sessions, prices.
"""

from binascii import unhexlify
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated, Final

import msgspec

from pool.chain.coinbase import CoinbaseHalves, build_coinbase
from stratum import _engine
from stratum.difficulty import BadTarget, target_from_nbits
from stratum.job import Work
from stratum.miners.channel import VERSION_MASK

# The smallest transaction without witness has 60 bytes, 240 weight units of a block's 4,000,000.
TRANSACTIONS_MAX: Final = 16_666
# A node refuses headers of more than two hours (7,200 s) past its clock. Counted from the template's own
# time, with 200 s left for the age of the template's clock and for what nodes' clocks differ by.
NTIME_AHEAD_MAX_S: Final = 7_000
# The rules that a node may demand ("!", BIP-9) and that we follow. A signet's blocks need a signature as
# well unless its challenge is OP_TRUE; the node sends signet_challenge and is the one to refuse them.
CHALLENGE_HEX_MAX: Final = 20_000  # a script of 10,000 bytes, consensus's largest
SEGWIT_RULE: Final = "segwit"
SIGNET_RULE: Final = "signet"

HEIGHT_MAX: Final = 0x7FFFFFFF  # consensus counts in 32 bits with a sign
NTIME_MAX: Final = 0xFFFFFFFF
# A template has half a dozen rules, each a deployment's short name.
RULES_MAX: Final = 64
# What a node says of itself ends up in log lines: names, ids, its user agent (bitcoind: 256 at most).
NAME_CHARS_MAX: Final = 256

_HASH_PATTERN: Final = r"\A[0-9a-fA-F]{64}\Z"
_COMMITMENT_PREFIX: Final = bytes.fromhex("6a24aa21a9ed")  # BIP-141: OP_RETURN, 36 bytes, magic
_COMMITMENT_BYTES: Final = 38
# BIP-141 lets more follow, for rules to come; a coinbase goes to every miner in every job.
_COMMITMENT_BYTES_MAX: Final = 128
_MONEY_MAX_SAT: Final = 21_000_000 * 100_000_000

HashHex = Annotated[str, msgspec.Meta(pattern=_HASH_PATTERN)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=NTIME_MAX)]
Name = Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX, pattern=r"\A[ -~]*\Z")]
Amount = Annotated[int, msgspec.Meta(ge=0, le=_MONEY_MAX_SAT)]


class BadTemplate(ValueError):
    """An answer of getblocktemplate that must not be mined; the text names the field."""


class Transactions(msgspec.Struct, frozen=True, kw_only=True):
    """Those that the node wants in the block, one behind the other, in the block's order. Each is in digits
    too, as a node is told them: the block that is found does not wait until they are."""

    data: bytes = b""  # witness serialisation
    data_hex: bytes = b""
    txids_internal: bytes = b""  # of 32 bytes each

    def __len__(self) -> int:
        return len(self.txids_internal) // 32


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """What a node offers to mine. Hashes are in internal order, times are Unix seconds."""

    height: int
    version: int
    nbits: int
    target: int
    prevhash_internal: bytes
    curtime: int
    mintime: int
    coinbase_value_sat: int
    transactions: Transactions
    witness_commitment: bytes | None  # the scriptPubKey of the commitment output
    longpoll_id: str  # empty: this node knows no longpolling
    rules: tuple[str, ...]  # active ones, without their "!"
    signet_challenge: str | None = None  # hex, of a signet's blocks

    @property
    def prevhash_hex(self) -> str:
        """The previous block as a person and an RPC write it."""
        return self.prevhash_internal[::-1].hex()


class _RawTransaction(msgspec.Struct):
    data: Annotated[str, msgspec.Meta(min_length=120)]
    txid: str
    hash: str = ""  # the txid with the witness; absent where the node knows no segwit
    fee: Amount = 0


class _RawTemplate(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=0, le=0x7FFFFFFF)]
    previousblockhash: HashHex
    transactions: Annotated[list[_RawTransaction], msgspec.Meta(max_length=TRANSACTIONS_MAX)]
    coinbasevalue: Amount
    target: HashHex
    mintime: _Time
    curtime: _Time
    bits: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{8}\Z")]
    height: Annotated[int, msgspec.Meta(ge=1, le=HEIGHT_MAX)]
    rules: Annotated[list[Name], msgspec.Meta(max_length=RULES_MAX)] = []
    longpollid: Name = ""
    default_witness_commitment: str | None = None
    signet_challenge: (
        Annotated[str, msgspec.Meta(max_length=CHALLENGE_HEX_MAX, pattern=r"\A[0-9a-fA-F]*\Z")] | None
    ) = None


def parse_template(result: object) -> Template:
    """The template in the `result` of getblocktemplate (BIP-22, BIP-23, BIP-145). Raises BadTemplate."""
    try:
        raw = msgspec.convert(result, type=_RawTemplate, strict=True)
    except msgspec.ValidationError as error:
        raise BadTemplate(f"getblocktemplate: {error}") from None
    if raw.curtime < raw.mintime:
        raise BadTemplate(f"curtime {raw.curtime} is before mintime {raw.mintime}")
    return Template(
        height=raw.height,
        version=raw.version,
        nbits=int(raw.bits, 16),
        target=_checked_target(raw),
        prevhash_internal=bytes.fromhex(raw.previousblockhash)[::-1],
        curtime=raw.curtime,
        mintime=raw.mintime,
        coinbase_value_sat=raw.coinbasevalue,
        transactions=_transactions(raw.transactions),
        witness_commitment=_witness_commitment(raw),
        longpoll_id=raw.longpollid,
        rules=_checked_rules(raw),
        signet_challenge=raw.signet_challenge,
    )


def _checked_target(raw: _RawTemplate) -> int:
    try:
        target = target_from_nbits(int(raw.bits, 16))
    except BadTarget as error:
        raise BadTemplate(f"bits: {error}") from None
    if target != int(raw.target, 16):
        raise BadTemplate(f"target {raw.target} is not what bits {raw.bits} mean ({target:064x})")
    return target


def _checked_rules(raw: _RawTemplate) -> tuple[str, ...]:
    followed = {SEGWIT_RULE} if raw.signet_challenge is None else {SEGWIT_RULE, SIGNET_RULE}
    unknown = [rule for rule in raw.rules if rule.startswith("!") and rule[1:] not in followed]
    if unknown:
        raise BadTemplate(f"rules: the node demands {', '.join(unknown):.80}, which this pool does not know")
    return tuple(rule.removeprefix("!") for rule in raw.rules)


def _transactions(raws: list[_RawTransaction]) -> Transactions:
    if any(len(raw.data) % 2 or len(raw.txid) != 64 for raw in raws):
        raise _bad_transaction(raws)
    digits = b"".join([raw.data.encode() for raw in raws])
    try:
        data, txids = unhexlify(digits), unhexlify("".join([raw.txid for raw in raws]))
    except ValueError:
        raise _bad_transaction(raws) from None
    last_first = txids[::-1]
    internal = [last_first[at : at + 32] for at in range(len(last_first) - 32, -1, -32)]
    return Transactions(data=data, data_hex=digits, txids_internal=b"".join(internal))


def _bad_transaction(raws: list[_RawTransaction]) -> BadTemplate:
    """Which it is, and why."""
    for index, raw in enumerate(raws):
        try:
            unhexlify(raw.data)
            size = len(unhexlify(raw.txid))
        except ValueError:
            return BadTemplate(f"transactions[{index}]: data or txid is not hex")
        if size != 32:
            return BadTemplate(f"transactions[{index}]: the txid has {size} bytes, not 32")
    raise AssertionError("each of them is good")


def _witness_commitment(raw: _RawTemplate) -> bytes | None:
    if raw.default_witness_commitment is None:
        if any(transaction.hash not in ("", transaction.txid) for transaction in raw.transactions):
            raise BadTemplate("default_witness_commitment: missing, but there are transactions with witness")
        return None
    try:
        script = bytes.fromhex(raw.default_witness_commitment)
    except ValueError:
        raise BadTemplate("default_witness_commitment is not hex") from None
    if (
        not script.startswith(_COMMITMENT_PREFIX)
        or not _COMMITMENT_BYTES <= len(script) <= _COMMITMENT_BYTES_MAX
    ):
        raise BadTemplate(f"default_witness_commitment {script.hex()!r:.80} is not a BIP-141 commitment")
    return script


def work_from_template(
    template: Template,
    *,
    payouts: Sequence[tuple[bytes, int]],
    tag: str,
    salts: Callable[[], bytes],
    extranonce_size: int,
    branch: tuple[bytes, ...],
) -> Work:
    """Work on `template` whose coinbase pays `payouts` (script, satoshi), together all of its value.

    `branch` is `branch_of` the template: hashing 4,000 transactions takes as long as making a hundred works
    of it. The version has no bits where miners roll theirs, not even those that the node signals with:
    firmware that sends the difference to it and firmware that sends the bits themselves then mean the same.
    Made anew, the work has the next one of `salts`, which nobody may know before: see build_coinbase. Raises
    BadCoinbase.
    """

    def made() -> Work:
        halves = build_coinbase(
            height=template.height,
            value_sat=template.coinbase_value_sat,
            payouts=payouts,
            salt=salts(),
            tag=tag,
            extranonce_size=extranonce_size,
            witness_commitment=template.witness_commitment,
        )
        return work_of(template, halves, branch, made)

    return made()


def work_of(
    template: Template, halves: CoinbaseHalves, branch: tuple[bytes, ...], anew: Callable[[], Work]
) -> Work:
    """Work with this coinbase; `branch` leads from it to the merkle root."""
    return Work(
        prevhash_internal=template.prevhash_internal,
        coinbase1=halves.coinbase1,
        coinbase2=halves.coinbase2,
        branch=branch,
        version=template.version & ~VERSION_MASK,
        nbits=template.nbits,
        ntime=template.curtime,
        ntime_min=template.mintime,
        ntime_max=min(template.curtime + NTIME_AHEAD_MAX_S, NTIME_MAX),
        height=template.height,
        network_target=template.target,
        origin=template,
        anew=anew,
    )


def branch_of(template: Template) -> tuple[bytes, ...]:
    """The merkle branch of its coinbase, whatever that pays."""
    return merkle_branch(template.transactions.txids_internal)


def merkle_branch(txids_internal: bytes) -> tuple[bytes, ...]:
    """What the coinbase's txid is hashed with, level by level, to reach the merkle root.

    `txids_internal` are all transactions but the coinbase, in the block's order, of 32 bytes each.
    """
    branch = []
    right = txids_internal  # one level of the tree without its leftmost node, the coinbase's
    while right:
        branch.append(right[:32])
        rest = right[32:]
        if len(rest) % 64:  # an odd level pairs its last node with itself
            rest += rest[-32:]
        right = _engine.sha256d(_engine.backend, rest, 64)
    return tuple(branch)


def merkle_root(coinbase: bytes, branch: Sequence[bytes]) -> bytes:
    """The merkle root of a block with this non-witness coinbase, in internal order."""
    root = sha256d(coinbase)
    for sibling in branch:
        root = sha256d(root + sibling)
    return root


def sha256d(data: bytes) -> bytes:
    """SHA-256 of SHA-256."""
    return sha256(sha256(data).digest()).digest()
