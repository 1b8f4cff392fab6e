"""Addresses become the scripts that their owners alone can spend, or are refused in words."""

import pytest

from pool.chain.addresses import ADDRESS_CHARS_MAX, BadAddress, script_for

P2PKH_MAIN = "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"
P2TR_MAIN = "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"
P2WPKH_REGTEST = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


@pytest.mark.parametrize(
    ("address", "network", "script_hex"),
    [
        # Base58: pay to public key hash, pay to script hash.
        (P2PKH_MAIN, "main", "76a91477bff20c60e522dfaa3350c39b030a5d004e839a88ac"),
        ("3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy", "main", "a914b472a266d0bd89c13706a4132ccfb16f7c3b9fcb87"),
        (
            "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn",
            "regtest",
            "76a914243f1394f44554f4ce3fd68649c19adc483ce92488ac",
        ),
        ("2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc", "test", "a9144e9f39ca4688ff102128ea4ccda34105324305b087"),
        # BIP-173, test vectors of segregated witness version 0.
        (
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "main",
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
        (
            "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
            "test",
            "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
        ),
        (
            "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
            "signet",
            "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
        ),
        (P2WPKH_REGTEST, "regtest", "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
        # BIP-350, test vectors of version 1.
        (
            "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
            "testnet4",
            "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
        ),
        (P2TR_MAIN, "main", "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
        # BIP-341, wallet test vectors: key path alone, with one leaf, with a tree.
        (
            "bc1p2wsldez5mud2yam29q22wgfh9439spgduvct83k3pm50fcxa5dps59h4z5",
            "main",
            "512053a1f6e454df1aa2776a2814a721372d6258050de330b3c6d10ee8f4e0dda343",
        ),
        (
            "bc1pz37fc4cn9ah8anwm4xqqhvxygjf9rjf2resrw8h8w4tmvcs0863sa2e586",
            "main",
            "5120147c9c57132f6e7ecddba9800bb0c4449251c92a1e60371ee77557b6620f3ea3",
        ),
        (
            "bc1punvppl2stp38f7kwv2u2spltjuvuaayuqsthe34hd2dyy5w4g58qqfuag5",
            "main",
            "5120e4d810fd50586274face62b8a807eb9719cef49c04177cc6b76a9a4251d5450e",
        ),
    ],
)
def test_every_address_kind_becomes_its_script(address: str, network: str, script_hex: str) -> None:
    assert script_for(address, network).hex() == script_hex


@pytest.mark.parametrize(
    ("address", "network", "reason"),
    [
        (P2PKH_MAIN, "regtest", f"{P2PKH_MAIN} is a mainnet address, the node is on regtest"),
        (P2TR_MAIN, "signet", f"{P2TR_MAIN} is a mainnet address, the node is on signet"),
        (P2WPKH_REGTEST, "main", f"{P2WPKH_REGTEST} is a regtest address, the node is on mainnet"),
        (
            "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc",
            "main",
            "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc is a testnet address, the node is on mainnet",
        ),
        (
            P2TR_MAIN,
            "liquid",
            "network 'liquid' is unknown, there are: main, test, testnet4, signet, regtest",
        ),
    ],
)
def test_an_address_of_another_network_is_refused_by_name(address: str, network: str, reason: str) -> None:
    with pytest.raises(BadAddress) as refused:
        script_for(address, network)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "the address is empty"),
        ("1" * (ADDRESS_CHARS_MAX + 1), "at most 90 characters, this has 91"),
        (f" {P2PKH_MAIN}", "letters and digits only"),
        (f"bitcoin:{P2PKH_MAIN}", "letters and digits only"),
        ("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN٢", "letters and digits only"),
        (P2PKH_MAIN[:-1] + "3", "not a valid address (checksum or length): mistyped?"),
        (P2TR_MAIN[:-1] + "9", "not a valid bech32 address"),
        # BIP-173 and BIP-350, invalid addresses: prefix, checksum kind, version, length, case, padding.
        ("tc1qw508d6qejxtdg4y5r3zarvary0c5xw7kg3g4ty", "not a valid address"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "not a valid bech32 address"),
        ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", "not a valid bech32 address"),
        ("BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL", "not a valid bech32 address"),
        ("BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R", "not a valid bech32 address"),
        ("bc1rw5uspcuh", "not a valid bech32 address"),
        ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", "not a valid bech32 address"),
        ("bc1qW508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "not a valid bech32 address"),
        ("bc1gmk9yu", "not a valid bech32 address"),
    ],
)
def test_a_mistyped_address_is_refused_with_a_readable_reason(address: str, reason: str) -> None:
    with pytest.raises(BadAddress) as refused:
        script_for(address, "main")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        # Valid by BIP-350; consensus has no rule for them yet, so they are anyone's.
        "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
        "BC1SW50QGDZ25J",
        "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs",
        "bc1pfeessrawgf",  # pay to anchor
    ],
)
def test_a_witness_program_that_anyone_could_spend_is_refused(address: str) -> None:
    with pytest.raises(BadAddress, match="anyone could spend"):
        script_for(address, "main")
