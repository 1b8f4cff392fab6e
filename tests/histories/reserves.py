"""Reserves without a chain: a wallet with coins that were made out of thin air, its signer, and thieves."""

from collections.abc import Sequence
from typing import Any

import msgspec

from payouts.batches.psbt import Spend, encode_psbt
from payouts.batches.transaction import Tx, TxInput, TxOutput, decode_transaction
from payouts.proof import angara_verify
from payouts.proof.angara_verify import as_written, row_hash, sha256d, target
from payouts.proof.key import ProofKey
from payouts.proof.reserves import TAG, Reserve, made, message_of, to_sign, to_spend
from payouts.proof.roots import Root
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import PayoutWallet, finalise
from tests.histories.proof import KEY, root_signed_again
from tests.histories.statements import DAY, DAY_S
from tests.stages.payouts import ADDRESSES, Signer, private_descriptors

HEIGHT = 900_123
COIN_SAT = 2_000_000
GENESIS = "0" * 64


def header_of(at_s: int) -> bytes:
    """Of a block at that time, which is easy."""
    for nonce in range(1 << 20):
        bare = bytes([4]) + bytes(67) + at_s.to_bytes(4, "little")
        header = bare + bytes.fromhex("ffff7f20") + nonce.to_bytes(4, "little")
        if int.from_bytes(sha256d(header), "little") <= target("207fffff"):
            return header
    raise AssertionError("no block in a million hashes")


HEADER = header_of(DAY_S + 86_400 + 6 * 3600)


def root_of(day: int = 0, owed_sat: int = 3 * COIN_SAT, key: ProofKey = KEY, book: str = "ab" * 32) -> Root:
    """Of the end of so many days after DAY, with nobody's leaves."""
    bare = Root(
        number=1 + day,
        day=str(DAY.fromordinal(DAY.toordinal() + day)),
        root="cd" * 32,
        total_sat=owed_sat,
        leaves=1024,
        ledger_seq=day,
        ledger_hash="ef" * 32,
        network="main",
        genesis=GENESIS,
        book=book,
        key=key.public.hex(),
        previous=GENESIS,
    )
    return msgspec.convert(root_signed_again(msgspec.to_builtins(bare), key), Root)


class Vault:
    """A watch-only wallet with three coins of two transactions, and who has its keys: of an account, "wpkh",
    "wsh" or "tr"."""

    def __init__(self, kind: str = "wpkh", account: int = 0) -> None:
        self.signer = Signer(*private_descriptors(kind, account))
        receive, change = self.signer.public()
        settings = PayoutSettings(descriptor=receive, change_descriptor=change, addresses=ADDRESSES)
        self.wallet = PayoutWallet(settings, "regtest")
        scripts = [self.signer.script(0), self.signer.script(1), self.signer.script(2, change=True)]
        outputs = [TxOutput(COIN_SAT + at, script) for at, script in enumerate(scripts)]
        self.txs = [_paying(account, outputs[:2]), _paying(account + 100, outputs[2:])]
        self.coins = [
            Spend(tx.txid, vout, it.amount_sat, it.script)
            for tx in self.txs
            for vout, it in enumerate(tx.outputs)
        ]
        self.total_sat = sum(it.amount_sat for it in self.coins)

    def signed(self, message: bytes, coins: Sequence[Spend]) -> Tx:
        """What the owner of the keys makes of it."""
        first = to_spend(message, self.wallet.first_script)
        sources = {it.txid: it for it in (first, *self.txs)}
        spent = [Spend(first.txid, 0, 0, self.wallet.first_script), *coins]
        psbt = encode_psbt(to_sign(spent), self.wallet.known_of(spent, sources), message)
        return decode_transaction(finalise(psbt, self.signer.sign(psbt)))

    def reserve(
        self,
        root: Root | None = None,
        coins: Sequence[Spend] | None = None,
        key: ProofKey = KEY,
        header: bytes = HEADER,
    ) -> Reserve:
        """As the pool takes it."""
        root, coins = root or root_of(), coins or self.coins
        signed = self.signed(message_of(root, key.public, HEIGHT, header), coins)
        return made(
            root,
            HEIGHT,
            header,
            self.wallet.first_script,
            {it: HEIGHT - 10 - at for at, it in enumerate(coins)},
            {it.txid: it for it in self.txs if it.txid in {coin.txid for coin in coins}},
            signed,
            key,
            (1, GENESIS),
        )


def _paying(number: int, outputs: Sequence[TxOutput]) -> Tx:
    return Tx(2, (TxInput(f"{number:064x}", 0, b"", 0),), tuple(outputs), 0)


def fields_of(reserve: Reserve) -> dict[str, Any]:
    """As a program reads it that may alter it."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(reserve))
    return found


def file_of(reserve: Reserve) -> bytes:
    """As it is published."""
    return as_written(fields_of(reserve))


def reserve_signed_again(value: dict[str, Any], key: ProofKey = KEY) -> bytes:
    """As who has the pool's key writes it, and not the coins' keys: hash and signature are right."""
    digest = row_hash(TAG, value)
    return angara_verify.as_written(value | {"hash": digest.hex(), "signature": key.sign(digest).hex()})
