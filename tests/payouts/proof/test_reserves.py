"""A reserve, and what a pool without the coins makes of it: each way is found, or is said to be open.

The thief is the pool: it has the key that reserves are signed with, and not those of the coins.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from payouts.batches.psbt import decode_psbt
from payouts.batches.transaction import Tx, TxInput, TxOutput
from payouts.proof import angara_verify
from payouts.proof.angara_verify import as_written
from payouts.proof.key import ProofKey
from payouts.proof.reserves import BadReserve, Reserve, made, message_of, signature_of
from payouts.proof.roots import Root
from tests.fixtures.databases import SqliteDatabases, fresh_store
from tests.histories.proof import KEY, Auditor, ClosedBook, altered, kinds_of_fields, root_signed_again
from tests.histories.reserves import (
    COIN_SAT,
    HEADER,
    Vault,
    fields_of,
    file_of,
    header_of,
    reserve_signed_again,
    root_of,
)
from tests.histories.statements import DAY_S

OTHER = ProofKey(bytes(31) + b"\5")
NOT_SIGNED = "its key did not sign this message"
# What the pool alone says, and no key of a coin: an auditor's node knows heights, and the chain of reserves
# is for who compares two of them.
SAID_BY_THE_POOL = {("coins", "*", "height"), ("number",), ("previous",)}


@pytest.fixture(scope="module", params=["wpkh", "wsh", "tr"])
def vault(request: pytest.FixtureRequest) -> Vault:
    """Coins of one key each, of two keys, and of taproot."""
    return Vault(request.param)


@pytest.fixture(scope="module")
def plain() -> Vault:
    return Vault()


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    return Auditor(tmp_path)


def wrong(auditor: Auditor, value: dict[str, Any], **beside: Any) -> list[str]:
    """What is found after the thief signed it."""
    code, found = auditor.found(reserve_signed_again(value), **beside)
    assert code == (1 if found else 0)
    return found


# As it should be


def test_coins_that_signed_for_a_root_are_believed_and_the_rest_is_said(
    vault: Vault, auditor: Auditor
) -> None:
    reserve = vault.reserve()
    root = msgspec.to_builtins(reserve.root)
    assert auditor.found(file_of(reserve), roots=[root]) == (0, [])
    told = " ".join(auditor.open)
    for coin in reserve.coins:
        assert f"coin {coin.txid}:{coin.vout}, {coin.amount_sat} sat" in told
        assert f"is in block {coin.height}, and unspent" in told
    assert "whether the coins were lent for a day" in told
    assert "of another kind" not in told


def test_other_programs_get_what_bip322_has(vault: Vault) -> None:
    message, psbt = signature_of(vault.reserve())
    read = decode_psbt(psbt)
    assert read.message == message.encode()
    assert f"; 2026-09-01; {3 * COIN_SAT} sat owed; root " in message
    assert read.tx.outputs == (TxOutput(0, b"\x6a"),)
    assert [(it.txid, it.vout) for it in read.tx.inputs[1:]] == [(it.txid, it.vout) for it in vault.coins]


def test_coins_below_what_is_owed_are_not_enough(plain: Vault, auditor: Auditor) -> None:
    exactly, more = (plain.reserve(root_of(owed_sat=plain.total_sat + it)) for it in (0, 1))
    assert auditor.found(file_of(exactly)) == (0, [])
    _, (words,) = auditor.found(file_of(more))
    assert f"{plain.total_sat} sat are signed for, and {plain.total_sat + 1} sat owed" in words
    assert "not enough" in words


def test_a_statement_is_beside_the_reserve_of_its_day_alone(
    plain: Vault, auditor: Auditor, sqlite_databases: SqliteDatabases
) -> None:
    with fresh_store(sqlite_databases) as store:
        book = ClosedBook(store)
        roots = [msgspec.convert(it, Root) for it in (*book_closed(book, 2), *book_closed(book, 3))]
        statement = book.file()
    today, tomorrow = (file_of(plain.reserve(it)) for it in roots)
    code, found = auditor.found(statement, reserve=today)
    assert (code, found) == enough(roots[0], plain)
    assert any(it.startswith("the reserve: coin ") for it in auditor.open)
    found = auditor.found(statement, reserve=tomorrow)[1]
    assert "the reserve: it is of root 2, and not of the statement's" in found
    auditor.found(statement)
    assert "whether the coins of the reserve are there: give --reserve, what is published" in auditor.open


def book_closed(book: ClosedBook, days: int) -> Sequence[Any]:
    return [msgspec.to_builtins(it) for it in book.close(days)]


def enough(root: Root, vault: Vault) -> tuple[int, list[str]]:
    if root.total_sat <= vault.total_sat:
        return 0, []
    return 1, [
        f"the reserve: {vault.total_sat} sat are signed for, and {root.total_sat} sat owed to all at the end"
        f" of {root.day}: it is not enough"
    ]


# A hand that has no key


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_single_bit_that_changed_is_found(vault: Vault, auditor: Auditor) -> None:
    data, seed = file_of(vault.reserve()), random.randrange(1 << 32)
    print(f"seed {seed}")
    for bit in random.Random(seed).sample(range(8 * len(data)), 50):
        assert auditor.found(flipped(data, bit))[0] in (1, 2), (seed, bit)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(16))
def test_so_it_is_with_every_bit_of_it(auditor: Auditor, part: int) -> None:
    """Of one coin: 2 kB."""
    vault = Vault("tr")
    data = file_of(vault.reserve(coins=vault.coins[:1], root=root_of(owed_sat=COIN_SAT)))
    for bit in range(part, 8 * len(data), 16):
        assert auditor.found(flipped(data, bit))[0] in (1, 2), bit


# A pool that cheats, and signs it


def test_who_has_the_pools_key_alone_can_change_nothing_that_coins_are_worth(
    vault: Vault, auditor: Auditor
) -> None:
    """Each kind of field, with hash and signature of root and reserve made again."""
    value = fields_of(vault.reserve())
    for path in kinds_of_fields(value):
        kind = tuple("*" if isinstance(it, int) else it for it in path)
        found: Any = value
        for name in path:
            found = found[name]
        made_again = path and path[-1] in ("hash", "signature")
        if kind in SAID_BY_THE_POOL or made_again or isinstance(found, dict | list):
            continue
        new = found + 1 if isinstance(found, int) else bumped(found)
        forged = altered(value, path, new)
        forged["root"] = root_signed_again(forged["root"])
        code, words = auditor.found(reserve_signed_again(forged))
        assert (code in (1, 2), bool(words)) == (True, True), path


def bumped(words: str) -> str:
    """Another of the same form."""
    last = {"0": "1", "9": "8", "f": "e"}.get(words[-1:], "0")
    return words[:-1] + last


def test_a_coin_counts_once_under_whatever_address_it_is_shown(plain: Vault, auditor: Auditor) -> None:
    value = fields_of(plain.reserve())
    coins, worth = value["coins"], value["coins"][0]["amount_sat"]
    twice = value | {"coins": [*coins, coins[0]], "total_sat": value["total_sat"] + worth}
    assert any("is there twice" in it for it in wrong(auditor, twice))
    own = plain.signer.script(0).hex()
    another = value | {
        "transactions": [
            value["transactions"][0].replace(own, plain.signer.script(5).hex()),
            value["transactions"][1],
        ]
    }
    assert any("there is no transaction of that hash" in it for it in wrong(auditor, another))


def test_another_ones_coins_are_signed_by_another_ones_key(plain: Vault, auditor: Auditor) -> None:
    """He takes the largest coin there is, and signs with what he has: from its transaction's hash follows
    whose it is, and how much."""
    rich = Vault(account=7)
    mine = plain.reserve()
    value, theirs = fields_of(mine), rich.reserve()
    stolen = fields_of(theirs)["coins"][0] | {"witness": value["coins"][0]["witness"]}
    value["coins"] = [*value["coins"], stolen]
    value["transactions"] = [*value["transactions"], rich.txs[0].stripped.hex()]
    value["total_sat"] += stolen["amount_sat"]
    found = wrong(auditor, value)
    assert f"coin {stolen['txid']}:{stolen['vout']}: {NOT_SIGNED}" in found
    larger = altered(fields_of(mine), ("coins", 0, "amount_sat"), 21 * 10**14)
    assert any("amount of coin" in it for it in wrong(auditor, larger))


def test_what_signed_yesterday_or_for_another_pool_did_not_sign_today(plain: Vault, auditor: Auditor) -> None:
    today = root_of(1)
    others = (
        plain.reserve(root_of(0)),
        plain.reserve(root_of(1, book="ba" * 32)),
        plain.reserve(root_of(1), key=OTHER),
        plain.reserve(root_of(1), header=header_of(DAY_S + 86_400)),
        plain.reserve(root_of(1, owed_sat=3 * COIN_SAT - 1)),
    )
    for other in others:
        shown = fields_of(other) | {
            "root": msgspec.to_builtins(today),
            "key": KEY.public.hex(),
            "block_header": HEADER.hex(),
        }
        found = wrong(auditor, shown)
        assert sum(NOT_SIGNED in it for it in found) == 1 + len(plain.coins)


def test_a_root_of_less_is_in_no_list_and_in_no_statement(plain: Vault, auditor: Auditor) -> None:
    """A pool that owes twice what it has makes another root of the same day, and signs for that."""
    owed = root_of(owed_sat=2 * plain.total_sat)
    less = plain.reserve(root_of(owed_sat=plain.total_sat))
    assert auditor.found(file_of(less)) == (0, [])  # by itself nothing tells it
    assert "whether everybody is shown the same root: give --roots, the list of them" in auditor.open
    found = auditor.found(file_of(less), roots=[msgspec.to_builtins(owed)])[1]
    assert found == ["root 1 of the reserve is not in the list: others see another"]


def test_coins_out_of_thin_air_are_found_by_a_node_alone(plain: Vault, auditor: Auditor) -> None:
    """So they are here, all of them: nothing but the chain knows that, and it is said of each."""
    assert auditor.found(file_of(plain.reserve()))[0] == 0
    assert sum("whether it is in block" in it for it in auditor.open) == len(plain.coins)
    early = plain.reserve(header=header_of(DAY_S + 3_600))
    assert auditor.found(file_of(early))[0] == 0
    assert "what became of the coins from that block to the end of 2026-09-01" in auditor.open


def test_scripts_that_are_not_known_count_for_nothing(plain: Vault, auditor: Auditor) -> None:
    """Of a script that nobody looks at any witness would do: these are anybody's, and the message's too."""
    scripts = (b"\x51\x20" + bytes(31) + b"\1", bytes.fromhex("51024e73"), plain.signer.script(0))
    anyones = Tx(2, (TxInput("77" * 32, 0, b"", 0),), tuple(TxOutput(COIN_SAT, it) for it in scripts), 0)
    witness = ["aa", "bb"]
    value = fields_of(plain.reserve(root_of(owed_sat=COIN_SAT)))
    value["challenge"] = {"script": "51024e73", "witness": witness}
    value["coins"] = [
        {"txid": anyones.txid, "vout": vout, "amount_sat": COIN_SAT, "height": 1, "witness": witness}
        for vout in (0, 1)
    ]
    value["transactions"], value["total_sat"] = [anyones.stripped.hex()], 2 * COIN_SAT
    assert wrong(auditor, value) == [
        f"0 sat are signed for, and {COIN_SAT} sat owed to all at the end of 2026-09-01: it is not enough"
    ]
    assert sum("is of another kind, and what it has is not counted" in it for it in auditor.open) == 3


def test_no_file_makes_it_fail(vault: Vault, auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of field as something else, where every signature holds: it ends, in words."""
    monkeypatch.setattr(angara_verify, "signed_by", lambda *_: True)
    monkeypatch.setattr(angara_verify, "ecdsa_signed_by", lambda *_: True)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, value = random.Random(seed), fields_of(vault.reserve())
    others: tuple[object, ...] = (None, True, -1, 10**25, "", "0", "00" * 80, [], [[]], [""], {}, {"a": 1})
    for path in kinds_of_fields(value):
        for new in chance.sample(others, 3):
            code, found = auditor.found(as_written(altered(value, path, new)))
            assert (code == 0) == (not found), path


@pytest.mark.parametrize(
    "tx",
    [
        "00" * 60,
        "01000000" + "ff" * 60,
        "0100000001" + "00" * 36 + "fe" + "ff" * 60,
        "0100000000" + "01" + "00" * 8 + "fd1027" + "51" * 10_001 + "00" * 4,
        "010000000001" + "00" * 8 + "fd1127" + "51" * 10_001 + "00000000",
    ],
)
def test_a_hostile_transaction_ends_in_words(plain: Vault, auditor: Auditor, tx: str) -> None:
    value = fields_of(plain.reserve())
    value["transactions"][0] = tx
    value["coins"][0]["txid"] = angara_verify.sha256d(bytes.fromhex(tx))[::-1].hex()
    code, found = auditor.found(reserve_signed_again(value))
    assert (code in (1, 2), bool(found)) == (True, True)


def test_the_pool_takes_nothing_that_an_auditor_would_call_wrong(plain: Vault) -> None:
    """A signer that returned yesterday's signatures, or left one out."""

    def taken(signed: Tx) -> Reserve:
        heights = dict.fromkeys(plain.coins, 1)
        sources = {it.txid: it for it in plain.txs[:2]}
        return made(
            root_of(),
            900_123,
            HEADER,
            plain.wallet.first_script,
            heights,
            sources,
            signed,
            KEY,
            (1, "0" * 64),
        )

    good = plain.signed(message_of(root_of(), KEY.public, 900_123, HEADER), plain.coins)
    assert taken(good).total_sat == plain.total_sat
    old = plain.signed(message_of(root_of(1), KEY.public, 900_123, HEADER), plain.coins)
    with pytest.raises(BadReserve, match=NOT_SIGNED):
        taken(old)
    first, *others = good.inputs
    with pytest.raises(BadReserve, match=NOT_SIGNED):
        taken(msgspec.structs.replace(good, inputs=(msgspec.structs.replace(first, witness=()), *others)))
