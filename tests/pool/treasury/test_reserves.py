"""Coins of a real chain that sign for a real root: from the books to the signer and back, and to an auditor.

Bitcoin Core's own consensus code looks at what was signed as well, and has to agree with `angara_verify`.
"""

import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from payouts.audit.reserves import check_reserves
from payouts.batches.psbt import Spend, decode_psbt, encode_psbt
from payouts.batches.transaction import Tx, TxOutput, compact_size, decode_transaction, outpoint
from payouts.book_time import book_time
from payouts.proof.key import ProofKey
from payouts.proof.reserves import BadReserve, Reserve, noted
from payouts.proof.roots import DAY_S, closed, due_day, note, roots
from payouts.sales.billing import Billing
from payouts.sales.deposits import give_address
from payouts.sales.terms import BillingTerms
from pool.books.book import bind
from pool.books.store import Store
from pool.orders.rows import add_order
from pool.regtest.chain import Coin as ChainCoin
from pool.treasury.coins import TooFewCoins
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import PayoutWallet, finalise
from pool.upstreams.rows import add_upstream
from tests.histories.orders import new_order, new_upstream
from tests.histories.proof import KEY, Auditor
from tests.histories.reserves import file_of
from tests.stages.payouts import (
    ADDRESSES,
    COIN_SAT,
    COINS,
    MINER,
    NOW_S,
    PAID_SAT,
    Regtest,
    Signer,
    World,
    private_descriptors,
    world_of,
)

OTHER = ProofKey(bytes(31) + b"\5")
OWED_SAT = sum(PAID_SAT.values())


@asynccontextmanager
async def closed_world(regtest: Regtest, store: Store, kind: str = "wpkh") -> AsyncIterator[World]:
    """A wallet with coins, and a root of what is owed."""
    bind(store, "regtest")
    async with world_of(regtest, store, kind) as world:
        close_day(world, 1)
        yield world


def close_day(world: World, after: int) -> None:
    with world.store.write() as connection:
        book_time(connection, (NOW_S // DAY_S + after) * DAY_S + 5)
        while (day := due_day(connection)) is not None:
            assert note(connection, closed(connection, KEY, day))


async def reserve_of(world: World) -> bytes:
    """What is published when everything goes well."""
    given = await world.paymaster().reserves.export(KEY.public)
    taken = await world.paymaster().reserves.receive([world.signer.sign(given.psbt)], KEY, "ann")
    return file_of(taken.reserve)


@pytest.mark.parametrize(
    "kind",
    ["wpkh", *(pytest.param(it, marks=pytest.mark.sqlite_suffices) for it in ("wsh", "tr"))],
)
async def test_what_a_wallet_signs_is_what_the_chain_and_the_auditor_take(
    regtest: Regtest, store: Store, tmp_path: Path, kind: str
) -> None:
    async with closed_world(regtest, store, kind) as world:
        given = await world.paymaster().reserves.export(KEY.public)
        assert (given.coins, given.total_sat, given.owed_sat) == (COINS, COINS * COIN_SAT, OWED_SAT)
        assert given.address == world.signer.address(0)
        back = world.signer.sign(given.psbt)
        taken = await world.paymaster().reserves.receive([back], KEY, "ann")
        assert (taken.fresh, taken.reserve.total_sat) == (True, COINS * COIN_SAT)
        as_text = b"pof" + base64.b64encode(back) + b"\n"
        again = await world.paymaster().reserves.receive([as_text], KEY, "bob")
        assert (again.fresh, again.reserve) == (False, taken.reserve)
        with store.read() as connection:
            published = msgspec.to_builtins(roots(connection))
            assert [(it.made_by, it.reserve) for it in noted(connection)] == [("ann", taken.reserve)]
            check_reserves(connection)
        auditor = Auditor(tmp_path)
        assert auditor.found(file_of(taken.reserve), roots=published) == (0, [])
        assert_the_chain_agrees(world, taken.reserve, decode_transaction(finalise(given.psbt, back)))


def assert_the_chain_agrees(world: World, reserve: Reserve, signed: Tx) -> None:
    """That every input may be spent, and none that was signed for another amount or otherwise."""
    spent = [ChainCoin(0, world.wallet.first_script, 0, False)]
    for coin in reserve.coins:
        spent.append(world.chain.coins[outpoint(coin.txid, coin.vout)])
        assert spent[-1].height == coin.height <= reserve.block_height
    assert world.chain.scripts_verify(signed.raw, spent)
    more = msgspec.structs.replace(spent[1], amount_sat=spent[1].amount_sat + 1)
    assert not world.chain.scripts_verify(signed.raw, [spent[0], more, *spent[2:]])
    later = msgspec.structs.replace(signed, lock_time=1)
    assert not world.chain.scripts_verify(later.raw, spent)


@pytest.mark.sqlite_suffices
async def test_of_two_keys_each_signs_by_itself_and_both_are_put_together(
    regtest: Regtest, store: Store
) -> None:
    async with closed_world(regtest, store, "wsh") as world:
        given = await world.paymaster().reserves.export(KEY.public)
        halves = [it.sign(given.psbt) for it in half_signers(world)]
        for half in halves:
            with pytest.raises(BadReserve, match="a signature is missing"):
                await world.paymaster().reserves.receive([half], KEY, "ann")
        taken = await world.paymaster().reserves.receive(halves, KEY, "ann")
        assert taken.reserve.total_sat == COINS * COIN_SAT


def half_signers(world: World) -> list[Signer]:
    """Who has one of two keys, and knows the other."""
    private = private_descriptors("wsh", world.account)
    known = world.signer.public()
    found = []
    for which in (1, 2):
        mixed = []
        for with_keys, without in zip(private, known, strict=True):
            parts = without.partition("#")[0].split(",")
            parts[which] = with_keys.split(",")[which]
            mixed.append(",".join(parts))
        found.append(Signer(*(it if it.endswith("))") else f"{it}))" for it in mixed)))
    return found


@pytest.mark.sqlite_suffices
async def test_coins_of_another_wallet_sign_with_the_others(regtest: Regtest, store: Store) -> None:
    async with closed_world(regtest, store) as world:
        cold = Signer(*private_descriptors("tr", next(regtest.accounts)))
        await world.fund(TxOutput(7_000_000, cold.script(3)))
        receive, change = cold.public()
        others = [
            PayoutWallet(
                PayoutSettings(descriptor=receive, change_descriptor=change, addresses=ADDRESSES), "regtest"
            )
        ]
        given = await world.paymaster().reserves.export(KEY.public, others=others)
        assert given.total_sat == COINS * COIN_SAT + 7_000_000
        both = [it.sign(given.psbt) for it in (world.signer, cold)]
        with pytest.raises(BadReserve, match="or of no wallet that is named"):
            await world.paymaster().reserves.receive(both, KEY, "ann")
        taken = await world.paymaster().reserves.receive(both, KEY, "ann", others)
        assert taken.reserve.total_sat == given.total_sat


@pytest.mark.sqlite_suffices
async def test_a_coin_that_a_buyer_paid_is_refused_whatever_wallet_it_is_shown_in(
    regtest: Regtest, store: Store
) -> None:
    """The wallet is named by a descriptor of another form, or no settings say any more where buyers pay: what
    they were given stands in the books. Nor is it taken where it was given out after the export."""
    async with closed_world(regtest, store) as world:
        sold = Signer(*private_descriptors("wpkh", next(regtest.accounts)))
        receive, change = sold.public()
        settings = PayoutSettings(descriptor=receive, change_descriptor=change, addresses=ADDRESSES)
        others, reserves = [PayoutWallet(settings, "regtest")], world.paymaster().reserves
        await world.fund(TxOutput(7_000_000, sold.script(3)))
        given = await reserves.export(KEY.public, others=others)
        assert given.total_sat == COINS * COIN_SAT + 7_000_000
        with world.store.write() as connection:
            add_upstream(connection, new_upstream(), by="ann", now_s=NOW_S)
            terms = BillingTerms(billing=Billing.DAILY)
            times = {"from_s": NOW_S, "until_s": NOW_S + 10**6}
            blue = add_order(
                connection,
                new_order("blue", tenants=("acme",), billing=terms, **times),
                by="ann",
                now_s=NOW_S,
            )
            paid_at = (sold.address(3), sold.script(3))
            give_address(connection, blue.id, lambda _: paid_at, by="ann", now_s=NOW_S)
        words = f"is what a buyer paid, at the address of order {blue.id}"
        with pytest.raises(BadReserve, match=words):
            await reserves.export(KEY.public, others=others)
        both = [it.sign(given.psbt) for it in (world.signer, sold)]
        with pytest.raises(BadReserve, match=words):
            await reserves.receive(both, KEY, "ann", others)
        assert (await reserves.export(KEY.public)).total_sat == COINS * COIN_SAT


@pytest.mark.sqlite_suffices
async def test_coins_that_were_spent_before_they_signed_are_refused(
    regtest: Regtest, store: Store, tmp_path: Path
) -> None:
    """Their keys sign all the same, and no program without a node can tell: the pool asks one, and so can
    whoever has the file."""
    async with closed_world(regtest, store) as world:
        published = await reserve_of(world)
        given = await world.paymaster().reserves.export(KEY.public)
        first = decode_psbt(given.psbt).tx.inputs[1]
        coin = world.chain.coins[outpoint(first.txid, first.vout)]
        close_day(world, 2)
        late = await world.paymaster().reserves.export(KEY.public)
        spend = Spend(first.txid, first.vout, coin.amount_sat, coin.script)
        await world.spend(spend, TxOutput(coin.amount_sat - 1_000, MINER))
        await world.mine()
        with pytest.raises(BadReserve, match="is spent by now"):
            await world.paymaster().reserves.receive([world.signer.sign(late.psbt)], KEY, "ann")
        auditor = Auditor(tmp_path)
        assert auditor.found(published)[0] == 0
        assert any(f"coin {first.txid}:{first.vout}" in it and "unspent" in it for it in auditor.open)
        assert await world.rpc.call("gettxout", first.txid, first.vout) is None


@pytest.mark.sqlite_suffices
async def test_what_was_not_exported_here_is_refused_in_words(regtest: Regtest, store: Store) -> None:
    async with closed_world(regtest, store) as world:
        reserves = world.paymaster().reserves
        given = await reserves.export(KEY.public)
        read, signed = decode_psbt(given.psbt), world.signer.sign(given.psbt)
        message = given.message.encode()
        without_message = given.psbt.replace(b"\1\x09" + compact_size(len(message)) + message, b"", 1)
        nowhere = re.sub(b"root [0-9a-f]{64}", b"root " + b"f" * 64, message)
        for back, words in (
            ([b"no psbt"], "is no transaction and no PSBT"),
            ([finalise(given.psbt, signed)], "returns a PSBT"),
            ([given.psbt], "a signature is missing"),
            ([world.signer.sign(without_message)], "there is no message in it"),
            ([world.signer.sign(encode_psbt(read.tx, read.inputs, nowhere))], "is none of these books"),
        ):
            with pytest.raises(BadReserve, match=words):
                await reserves.receive(back, KEY, "ann")
        with pytest.raises(BadReserve, match="another than this pool's, with this key"):
            await reserves.receive([signed], OTHER, "ann")
        close_day(world, 2)
        later = await reserves.export(KEY.public)
        swapped = encode_psbt(read.tx, read.inputs, later.message.encode())
        with pytest.raises(BadReserve, match="not the transaction that was exported"):
            await reserves.receive([world.signer.sign(swapped)], KEY, "ann")
        assert (await reserves.receive([given.psbt, world.signer.sign(without_message)], KEY, "ann")).fresh


@pytest.mark.sqlite_suffices
async def test_there_is_nothing_to_sign_without_a_root_or_without_coins(
    regtest: Regtest, store: Store
) -> None:
    bind(store, "regtest")
    async with world_of(regtest, store) as world:
        with pytest.raises(BadReserve, match="no day was closed yet"):
            await world.paymaster().reserves.export(KEY.public)
        close_day(world, 1)
        empty = World(regtest, store)
        with pytest.raises(TooFewCoins, match="no coins that can be spent yet"):
            await empty.paymaster().reserves.export(KEY.public)
        await empty.aclose()
