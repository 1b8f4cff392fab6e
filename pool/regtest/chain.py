"""The regtest chain: Bitcoin Core's consensus engine (py-bitcoinkernel) and the coins it leaves unspent.

Everything here blocks and must be called from one thread at a time (worker threads, under the node's
lock); only `tip`, a frozen value that is replaced as a whole, may be read from anywhere.

Invariants:
* `coins` is the UTXO set of the active chain: rebuilt from the blocks when opened, then moved by the
  kernel's own block_connected and block_disconnected events, so a reorganisation leaves it right.
* A verdict is the kernel's. Whether a block was checked, and how that ended, comes from the
  block_checked event of exactly this block; the BIP22 word comes from the line that the kernel then
  logs on the thread that submitted it.
* Hashes are bytes in internal order.

Must not know: transactions that are not in a block, templates, JSON-RPC.
"""

import hashlib
import re
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

HEADER_BYTES = 80
OUTPOINT_BYTES = 36
MEDIAN_TIME_SPAN = 11  # blocks whose median time is the past of the next block
SCRIPT_BYTES_MAX = 10_000  # a longer script can never be spent (consensus), so it is no coin
RETARGET_BLOCKS = 2016
TIMEWARP_MAX_S = 600  # how far the first block of a retarget period may step back in time
OP_RETURN = b"\x6a"
# The kernel's last word on a block; a reason never holds a comma, what follows one is for people.
REASON = re.compile(r"(?:AcceptBlock FAILED \(|ConnectBlock [0-9a-f]{64} failed, )([^,)\n]+)")


class RegtestUnavailable(Exception):
    """The embedded node cannot run here; the message says what to do about it."""


class Coin(msgspec.Struct, frozen=True):
    """An unspent output."""

    amount_sat: int
    script: bytes
    height: int
    coinbase: bool


class Tip(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the active chain, as of the last block that was processed."""

    hash_internal: bytes
    height: int
    time: int
    mediantime: int
    nbits: int
    headers: int  # height of the best known header


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A known block: its header, and where it stands."""

    hash_internal: bytes
    raw: bytes
    height: int
    mediantime: int
    confirmations: int  # -1: not in the active chain
    next_internal: bytes | None  # the block after it in the active chain
    tx_count: int


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a block."""

    verdict: str | None = None  # BIP22; None: it is the new tip
    fault: str | None = None  # the kernel failed for a reason of its own (disk, memory): no verdict
    returned: tuple[bytes, ...] = ()  # transactions of the blocks that a reorganisation took away


class BlockTx(msgspec.Struct, frozen=True):
    """A transaction as it stands in a block."""

    raw: bytes
    txid: bytes
    spends: tuple[bytes, ...]  # outpoints
    outputs: tuple[tuple[int, bytes], ...]  # amount_sat, script


def sha256d(data: bytes) -> bytes:
    """Bitcoin's double SHA-256."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def outpoint(txid: bytes, index: int) -> bytes:
    """The key of a coin: 36 bytes, as a transaction input serialises it."""
    return txid + struct.pack("<I", index)


def import_kernel() -> Any:
    """py-bitcoinkernel, which is an optional dependency. Raises RegtestUnavailable without it."""
    try:
        import pbk
        import pbk.capi.bindings
        import pbk.script
    except (ImportError, OSError) as missing:
        raise RegtestUnavailable(
            f"the embedded regtest node needs py-bitcoinkernel: pip install 'angara[node]' ({missing})"
        ) from missing
    return pbk


class Chain:
    """The active chain in `data_dir`, created when there is none. Close it, or the last blocks are lost."""

    def __init__(self, data_dir: Path) -> None:
        self._pbk = import_kernel()
        self._submitting_thread: int | None = None  # whose log lines are kept
        self._lines: list[str] = []
        self._submitted = b""  # hash of the block that is, or was last, submitted
        self._checked: Any | None = None  # how the kernel's check of that block ended
        self._moves: list[tuple[bool, Any, Any]] = []  # connected?, block, entry: in the kernel's order
        self._blocks_dir = data_dir / "blocks"
        self._open = ExitStack()
        callbacks = self._pbk.ValidationInterfaceCallbacks(
            block_checked=self._on_checked,
            block_connected=lambda _, block, entry: self._moves.append((True, block, entry)),
            block_disconnected=lambda _, block, entry: self._moves.append((False, block, entry)),
        )
        self.coins: dict[bytes, Coin] = {}
        try:
            # Without a connection of ours the kernel would keep its log for a later one.
            self._open.enter_context(self._pbk.LoggingConnection(self._on_log))
            self._kernel = self._open.enter_context(
                self._pbk.load_chainman(data_dir, self._pbk.ChainType.REGTEST, callbacks)
            )
            self._active = self._kernel.get_active_chain()
            self._moves.clear()  # what opening the chain connected is read with the rest of it
            for height in range(1, self._active.height + 1):
                entry = self._active.block_tree_entries[height]
                self._connect(bytes(self._kernel.blocks[entry]), height)
        except RuntimeError as refused:
            self._open.close()
            raise RegtestUnavailable(
                f"cannot open the regtest chain in {data_dir}: is another node using it, or is it damaged?"
            ) from refused
        self.tip = self._read_tip()

    def close(self) -> None:
        """Write everything to disk and release the data directory."""
        self._moves.clear()
        self._open.close()

    def submit(self, raw: bytes) -> Submission:
        """Give a block to the kernel. Raises ValueError where `raw` is no block."""
        # The binding is called directly: pbk.Block copies byte by byte, 40 ms for a block of 1 MB.
        handle = self._pbk.capi.bindings.btck_block_create(raw, len(raw))
        block = self._pbk.Block._from_handle(handle)
        self._submitted = bytes(block.block_hash)
        self._checked = None
        self._lines.clear()
        self._submitting_thread = threading.get_ident()
        try:
            fresh = self._kernel.process_block(block)
            accepted = True
        except self._pbk.ProcessBlockException:
            fresh = accepted = False
        finally:
            self._submitting_thread = None
        returned = self._follow(raw)
        if accepted and not fresh:
            return Submission(verdict="duplicate", returned=returned)
        if self._checked is None:  # stored on a branch that is not the best one: nobody looked at it
            return Submission(verdict="inconclusive", returned=returned)
        if self._checked == self._pbk.ValidationMode.VALID:
            return Submission(returned=returned)
        if self._checked == self._pbk.ValidationMode.INVALID:
            return Submission(verdict=self._reason("rejected"), returned=returned)
        return Submission(fault=self._reason("the kernel failed"), returned=returned)

    def _reason(self, otherwise: str) -> str:
        """What the kernel logged when it refused the block that was just submitted.

        It says so once: a block is only checked when everything before it was found valid.
        """
        found = REASON.search("".join(self._lines))
        return found[1].strip() if found else otherwise

    def _on_log(self, line: str) -> None:
        # Logging is global to the process: other chains and other threads are none of our business.
        if threading.get_ident() == self._submitting_thread:
            self._lines.append(line)

    def _on_checked(self, _: Any, block: Any, state: Any) -> None:
        if bytes(block.block_hash) == self._submitted:
            self._checked = state.validation_mode

    def _follow(self, submitted: bytes) -> tuple[bytes, ...]:
        """Move the coins along with the blocks that came and went; returns the transactions that went."""
        returned: list[bytes] = []
        for connected, block, entry in self._moves:
            raw = submitted if bytes(block.block_hash) == self._submitted else bytes(block)
            if connected:
                self._connect(raw, entry.height)
            else:
                returned = self._disconnect(raw, entry) + returned
        self._moves.clear()
        self.tip = self._read_tip()
        return tuple(returned)

    def _connect(self, raw: bytes, height: int) -> None:
        for position, tx in enumerate(_transactions(raw)):
            if position:  # the coinbase spends nothing
                for spent in tx.spends:
                    del self.coins[spent]
            for index, (amount_sat, script) in enumerate(tx.outputs):
                if script[:1] != OP_RETURN and len(script) <= SCRIPT_BYTES_MAX:
                    self.coins[outpoint(tx.txid, index)] = Coin(amount_sat, script, height, position == 0)

    def _disconnect(self, raw: bytes, entry: Any) -> list[bytes]:
        undo = self._kernel.block_spent_outputs[entry].transactions
        txs = list(_transactions(raw))
        for position, tx in reversed(list(enumerate(txs))):
            for index in range(len(tx.outputs)):
                self.coins.pop(outpoint(tx.txid, index), None)
            if position:
                for spent, coin in zip(tx.spends, undo[position - 1].coins, strict=True):
                    script = bytes(coin.output.script_pubkey)
                    self.coins[spent] = Coin(
                        coin.output.amount, script, coin.confirmation_height, coin.is_coinbase
                    )
        return [tx.raw for tx in txs[1:]]

    def _read_tip(self) -> Tip:
        entry = self._active.block_tree_entries[self._active.height]
        raw = bytes(entry.block_header)
        block_time, nbits = struct.unpack_from("<II", raw, 68)
        return Tip(
            hash_internal=bytes(entry.block_hash),
            height=entry.height,
            time=block_time,
            mediantime=self._median_time(entry),
            nbits=nbits,
            headers=self._kernel.best_entry.height,
        )

    def _median_time(self, entry: Any) -> int:
        """The median time of the blocks up to `entry`; the next one must be later."""
        times = [_time(entry)]
        while len(times) < MEDIAN_TIME_SPAN and entry.height > 0:
            entry = entry.previous
            times.append(_time(entry))
        return sorted(times)[len(times) // 2]

    def median_time_at(self, height: int) -> int:
        """The median time past as of the block at `height` of the active chain."""
        return self._median_time(self._active.block_tree_entries[height])

    def hash_at(self, height: int) -> bytes | None:
        """The hash of the block at `height` of the active chain, None outside of it."""
        if not 0 <= height <= self.tip.height:
            return None
        return bytes(self._active.block_tree_entries[height].block_hash)

    def times(self, blocks: int) -> Iterator[int]:
        """The times of the last `blocks` blocks of the active chain, oldest first."""
        for height in range(max(0, self.tip.height + 1 - blocks), self.tip.height + 1):
            yield _time(self._active.block_tree_entries[height])

    def header(self, hash_internal: bytes) -> Header | None:
        """What is known about a block, None if nothing is."""
        entry = self._entry(hash_internal)
        if entry is None:
            return None
        active = entry in self._active.block_tree_entries
        following = self.hash_at(entry.height + 1) if active else None
        block = self._read_block(entry)
        return Header(
            hash_internal=hash_internal,
            raw=bytes(entry.block_header),
            height=entry.height,
            mediantime=self._median_time(entry),
            confirmations=self.tip.height - entry.height + 1 if active else -1,
            next_internal=following,
            tx_count=0 if block is None else len(block.transactions),
        )

    def block(self, hash_internal: bytes) -> bytes | None:
        """The serialised block, None where only its header is known, or nothing at all."""
        entry = self._entry(hash_internal)
        block = None if entry is None else self._read_block(entry)
        return None if block is None else bytes(block)

    def spent_coins(self, hash_internal: bytes) -> list[list[Coin]] | None:
        """What each transaction of a block but the coinbase spends, None where the block is not stored."""
        entry = self._entry(hash_internal)
        if entry is None or self._read_block(entry) is None:
            return None
        return [
            [
                Coin(
                    coin.output.amount,
                    bytes(coin.output.script_pubkey),
                    coin.confirmation_height,
                    coin.is_coinbase,
                )
                for coin in tx.coins
            ]
            for tx in self._kernel.block_spent_outputs[entry].transactions
        ]

    def _entry(self, hash_internal: bytes) -> Any | None:
        try:
            return self._kernel.block_tree_entries[self._pbk.BlockHash(hash_internal)]
        except KeyError:
            return None

    def _read_block(self, entry: Any) -> Any | None:
        try:
            return self._kernel.blocks[entry]
        except RuntimeError:  # its header was good, its body was refused and never stored
            return None

    def size_on_disk_bytes(self) -> int:
        """Blocks and undo data."""
        return sum(file.stat().st_size for file in self._blocks_dir.glob("*.dat"))

    def txid(self, raw: bytes) -> bytes:
        """The txid of a transaction. Raises ValueError where `raw` is not one, canonically written."""
        handle = self._pbk.capi.bindings.btck_transaction_create(raw, len(raw))
        tx = self._pbk.Transaction._from_handle(handle)
        if bytes(tx) != raw:
            raise ValueError("not a canonical transaction")
        return bytes(tx.txid)

    def scripts_verify(self, raw: bytes, spent: list[Coin]) -> bool:
        """Whether the scripts of every input of a transaction allow it to spend `spent`."""
        tx = self._pbk.Transaction(raw)
        scripts = [self._pbk.ScriptPubkey(coin.script) for coin in spent]
        outputs = [
            self._pbk.TransactionOutput(script, coin.amount_sat)
            for script, coin in zip(scripts, spent, strict=True)
        ]
        precomputed = self._pbk.script.PrecomputedTransactionData(tx, outputs)
        flags = self._pbk.ScriptVerificationFlags.ALL
        try:
            return all(
                script.verify(coin.amount_sat, tx, precomputed, index, flags)
                for index, (script, coin) in enumerate(zip(scripts, spent, strict=True))
            )
        except self._pbk.ScriptVerifyException:
            return False

    def next_time_min(self) -> int:
        """The earliest time the next block may carry."""
        earliest = self.tip.mediantime + 1
        if (self.tip.height + 1) % RETARGET_BLOCKS == 0:  # BIP94, which bitcoind's templates always heed
            earliest = max(earliest, self.tip.time - TIMEWARP_MAX_S)
        return earliest

    def next_time(self) -> int:
        """The time a block should carry that is made now."""
        return max(self.next_time_min(), int(time.time()))


def _time(entry: Any) -> int:
    block_time: int = struct.unpack_from("<I", bytes(entry.block_header), 68)[0]
    return block_time


def _transactions(raw: bytes) -> Iterator[BlockTx]:
    """The transactions of a serialised block that the kernel has found valid.

    Read here, and not through the kernel: some twenty calls a transaction, each of which gives up the
    interpreter's lock, take five times as long, and longer beside a busy thread.
    """
    count, at = _compact_size(raw, HEADER_BYTES)
    for _ in range(count):
        start = at
        segwit = raw[start + 4] == 0  # the marker stands where no input count can be zero
        inputs_at = start + 6 if segwit else start + 4
        inputs, at = _compact_size(raw, inputs_at)
        spends = []
        for _ in range(inputs):
            spends.append(raw[at : at + OUTPOINT_BYTES])
            script_bytes, at = _compact_size(raw, at + OUTPOINT_BYTES)
            at += script_bytes + 4
        outputs_count, at = _compact_size(raw, at)
        outputs = []
        for _ in range(outputs_count):
            amount_sat: int = struct.unpack_from("<q", raw, at)[0]
            script_bytes, at = _compact_size(raw, at + 8)
            outputs.append((amount_sat, raw[at : at + script_bytes]))
            at += script_bytes
        outputs_end = at
        for _ in range(inputs if segwit else 0):
            items, at = _compact_size(raw, at)
            for _ in range(items):
                item_bytes, at = _compact_size(raw, at)
                at += item_bytes
        at += 4
        txid = sha256d(raw[start : start + 4] + raw[inputs_at:outputs_end] + raw[at - 4 : at])
        yield BlockTx(raw[start:at], txid, tuple(spends), tuple(outputs))


def _compact_size(raw: bytes, at: int) -> tuple[int, int]:
    """The number that stands at `at`, and where it ends."""
    first = raw[at]
    if first < 0xFD:
        return first, at + 1
    width = 2 << (first - 0xFD)
    return int.from_bytes(raw[at + 1 : at + 1 + width], "little"), at + 1 + width
