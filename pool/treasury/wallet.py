"""The payout wallet as this host knows it: two descriptors of public keys, which find coins and sign nothing.

bdkpython parses the descriptors, derives their scripts, and writes PSBTs with all that a signer needs (key
origins, witness scripts, the coins' transactions). Coins come from the node and are chosen by
`payout_coins`: bdk's own wallet would want an Electrum or Esplora server to look at the chain.

Invariants: no private key gets in here, and a descriptor that holds one is not shown; both descriptors are
native segwit, so that a txid is known before it is signed; what a batch leaves over goes to an address of
the change descriptor. All of it blocks: call it from a worker thread.

Must not know: nodes, the database.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import bdkpython as bdk
import msgspec

from payouts.batches.psbt import Flaw, Quarantined, Spend, decode_psbt
from payouts.batches.transaction import SEQUENCE_RBF, TX_WEIGHT_MAX, Tx, TxOutput, decode_transaction
from pool.treasury.settings import PayoutSettings

TX_VERSION: Final = 2
OP_RETURN: Final = b"\x6a"
_SEGWIT: Final = (bdk.DescriptorType.WPKH, bdk.DescriptorType.WSH, bdk.DescriptorType.TR)
_SEGWIT_MULTI: Final = (*_SEGWIT, bdk.DescriptorType.WSH_SORTED_MULTI)
NETWORKS: Final = {
    "main": bdk.Network.BITCOIN,
    "test": bdk.Network.TESTNET,
    "testnet4": bdk.Network.TESTNET4,
    "signet": bdk.Network.SIGNET,
    "regtest": bdk.Network.REGTEST,
}


class BadWallet(ValueError):
    """Descriptors that payouts cannot be made with; the text says why and shows no key."""


class Shape(msgspec.Struct, frozen=True):
    """What a transaction of the wallet will weigh."""

    spend_weight: int  # of what signs an input

    def weight(self, inputs: int, outputs: Sequence[TxOutput]) -> int:
        """At most, in weight units: with markers, counts of up to three bytes, and one witness count each."""
        fixed = 4 * (4 + 3 + 3 + 4) + 2
        sized = sum(4 * (8 + 1 + len(output.script)) for output in outputs)
        return fixed + inputs * (4 * 41 + 1 + self.spend_weight) + sized

    def fee_sat(self, inputs: int, outputs: Sequence[TxOutput], rate_sat_kvb: int) -> int:
        """At that rate, rounded up."""
        return -(-self.weight(inputs, outputs) * rate_sat_kvb // 4000)


class PayoutWallet:
    """Descriptors, and what follows from them."""

    def __init__(self, settings: PayoutSettings, network: str) -> None:
        receive, change = _descriptors(settings, network)
        self._network = NETWORKS[network]
        self._receive, self._change = receive, change
        self._addresses = settings.addresses
        self._wallet = bdk.Wallet(
            receive, change, self._network, bdk.Persister.new_in_memory(), settings.addresses
        )
        self.shape = Shape(max(receive.max_weight_to_satisfy(), change.max_weight_to_satisfy()))

    @property
    def scan_objects(self) -> list[dict[str, object]]:
        """What scantxoutset is asked for."""
        last = self._addresses - 1
        return [{"desc": str(it), "range": [0, last]} for it in (self._receive, self._change)]

    @property
    def first_address(self) -> str:
        """Where it takes coins, by which a person knows the wallet again."""
        return str(self._receive.derive_address(0, self._network))

    def is_own(self, script: bytes) -> bool:
        """Whether an output goes to one of our addresses."""
        return self._keychain(script) is not None

    def is_change(self, script: bytes) -> bool:
        """Whether an output goes to the change descriptor: only payouts, and transactions made elsewhere
        with the same wallet, pay to it."""
        return self._keychain(script) is bdk.KeychainKind.INTERNAL

    def script_of_others(self, script_of: Callable[[str], bytes]) -> Callable[[str], bytes]:
        """How an address of a tenant becomes a script. One of this wallet does not (ValueError): with it each
        move of our own coins would be a payment to that tenant."""

        def checked(address: str) -> bytes:
            script = script_of(address)
            if self.is_own(script):
                raise ValueError(f"{address} is an address of the payout wallet itself")
            return script

        return checked

    def change_script(self, batch_id: int) -> bytes:
        """Where a batch leaves what is left over: an address of its own, the same for all its attempts."""
        index = batch_id % self._addresses
        return bytes(self._change.derive_address(index, self._network).script_pubkey().to_bytes())

    def build(self, coins: Sequence[Spend], sources: Mapping[str, Tx], outputs: Sequence[TxOutput]) -> bytes:
        """A PSBT that spends the coins, in that order, to the outputs, in that order.

        `sources` are the transactions that made the coins, by txid. Raises BadWallet.
        """
        weight = self.shape.weight(len(coins), outputs)
        if weight > TX_WEIGHT_MAX:
            raise BadWallet(
                f"{len(coins)} coins and {len(outputs)} outputs weigh {weight}, nodes relay {TX_WEIGHT_MAX}: "
                "gather the wallet's coins into fewer first"
            )
        builder = bdk.TxBuilder().version(TX_VERSION).ordering(bdk.TxOrdering.UNTOUCHED)
        builder = builder.manually_selected_only().nlocktime(bdk.LockTime.BLOCKS(0))
        for coin in coins:
            point = bdk.OutPoint(txid=bdk.Txid.from_string(coin.txid), vout=coin.vout)
            source = bdk.Transaction(sources[coin.txid].raw)
            builder = builder.add_foreign_utxo_with_sequence(
                point, _input(source, coin), self.shape.spend_weight, SEQUENCE_RBF
            )
        for output in outputs:
            amount = bdk.Amount.from_sat(output.amount_sat)
            builder = builder.add_recipient(bdk.Script(output.script), amount)
        fee_sat = sum(coin.amount_sat for coin in coins) - sum(output.amount_sat for output in outputs)
        builder = builder.fee_absolute(bdk.Amount.from_sat(fee_sat))
        try:
            return base64.b64decode(builder.finish(self._wallet).serialize())
        except (bdk.CreateTxError, bdk.AddForeignUtxoError) as error:
            raise BadWallet(f"the transaction cannot be made: {error!r}") from None

    @property
    def first_script(self) -> bytes:
        """Of its first address."""
        return bytes(self._receive.derive_address(0, self._network).script_pubkey().to_bytes())

    def known_of(self, coins: Sequence[Spend], sources: Mapping[str, Tx]) -> tuple[dict[bytes, bytes], ...]:
        """What a signer has to know of each coin, as inputs of a PSBT have it: its transaction, its keys.

        `sources` are as in `build`. Raises BadWallet, BadTransaction."""
        return decode_psbt(self.build(coins, sources, [TxOutput(0, OP_RETURN)])).inputs

    def sources(self, psbt: bytes) -> dict[str, Tx]:
        """The transactions that made the coins of a PSBT that was built here, by txid."""
        found = [it.non_witness_utxo for it in bdk.Psbt(base64.b64encode(psbt).decode()).input()]
        txs = [decode_transaction(bytes(it.serialize())) for it in found if it is not None]
        return {tx.txid: tx for tx in txs}

    def _keychain(self, script: bytes) -> bdk.KeychainKind | None:
        found = self._wallet.derivation_of_spk(bdk.Script(script))
        if found is None or found.index >= self._addresses:
            return None
        return found.keychain


def combine(psbts: Sequence[bytes]) -> bytes:
    """What several signers know of one transaction, put together. Raises Quarantined."""
    try:
        whole, *others = (bdk.Psbt(base64.b64encode(it).decode()) for it in psbts)
        for it in others:
            whole = whole.combine(it)
        return base64.b64decode(whole.serialize())
    except (bdk.PsbtParseError, bdk.PsbtError) as error:
        raise Quarantined(Flaw.FORMAT, repr(error)) from None


def finalise(given: bytes, returned: bytes) -> bytes:
    """The transaction of a PSBT that came back signed, put on top of the one that was given.

    Raises Quarantined where signatures are missing or wrong.
    """
    try:
        psbt = bdk.Psbt(base64.b64encode(given).decode())
        result = psbt.combine(bdk.Psbt(base64.b64encode(returned).decode())).finalize()
        if not result.could_finalize:
            raise Quarantined(Flaw.WITNESS, "; ".join(str(error) for error in result.errors or ()))
        return bytes(result.psbt.extract_tx_unchecked_fee_rate().serialize())
    except (bdk.PsbtParseError, bdk.PsbtError, bdk.ExtractTxError) as error:
        raise Quarantined(Flaw.FORMAT, repr(error)) from None


def _descriptors(settings: PayoutSettings, network: str) -> tuple[bdk.Descriptor, bdk.Descriptor]:
    receive = parse_descriptor(settings.descriptor, "descriptor", network)
    if receive.is_multipath():
        if settings.change_descriptor is not None:
            raise BadWallet(
                "payouts: a descriptor with <0;1> has its change in it, give no change_descriptor"
            )
        both = receive.to_single_descriptors()
        if len(both) != 2:
            raise BadWallet("payouts.descriptor: two paths, one to receive and one for change: <0;1>")
        receive, change = both
    elif settings.change_descriptor is None:
        raise BadWallet("payouts.change_descriptor: missing, or give one descriptor with <0;1>")
    else:
        change = parse_descriptor(settings.change_descriptor, "change_descriptor", network)
    for name, it in (("descriptor", receive), ("change_descriptor", change)):
        if it.is_multipath() or not it.has_wildcard():
            raise BadWallet(f"payouts.{name}: it has to end in a wildcard: /*")
        if it.desc_type() not in _SEGWIT_MULTI:
            raise BadWallet(f"payouts.{name}: native segwit only: wpkh(), wsh() or tr()")
    if str(receive) == str(change):
        raise BadWallet("payouts: descriptor and change_descriptor are the same")
    return receive, change


def parse_descriptor(text: str, name: str, network: str) -> bdk.Descriptor:
    """A descriptor of public keys, with a checksum that is right where it has one. Raises BadWallet."""
    kind = bdk.NetworkKind.MAIN if network == "main" else bdk.NetworkKind.TEST
    try:
        parsed = bdk.Descriptor(text, kind)
    except bdk.DescriptorError as error:
        # Nothing of the text is shown, it may hold a key: the kind of error alone.
        why = f"of another network than {network}" if _of_another(text, kind) else type(error).__name__
        raise BadWallet(f"payouts.{name}: cannot be read ({why})") from None
    if parsed.to_string_with_secret() != str(parsed):
        raise BadWallet(f"payouts.{name}: it holds private keys, which must never be on this host")
    return parsed


def _of_another(text: str, kind: bdk.NetworkKind) -> bool:
    other = bdk.NetworkKind.TEST if kind == bdk.NetworkKind.MAIN else bdk.NetworkKind.MAIN
    try:
        bdk.Descriptor(text, other)
    except bdk.DescriptorError:
        return False
    return True


def _input(source: bdk.Transaction, coin: Spend) -> bdk.Input:
    """What is known of a coin; bdk adds the keys."""
    return bdk.Input(
        non_witness_utxo=source,
        witness_utxo=bdk.TxOut(
            value=bdk.Amount.from_sat(coin.amount_sat), script_pubkey=bdk.Script(coin.script)
        ),
        partial_sigs={},
        sighash_type=None,
        redeem_script=None,
        witness_script=None,
        bip32_derivation={},
        final_script_sig=None,
        final_script_witness=None,
        ripemd160_preimages={},
        sha256_preimages={},
        hash160_preimages={},
        hash256_preimages={},
        tap_key_sig=None,
        tap_script_sigs={},
        tap_scripts={},
        tap_key_origins={},
        tap_internal_key=None,
        tap_merkle_root=None,
        proprietary={},
        unknown={},
    )
