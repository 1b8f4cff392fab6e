"""Check what a pool signed, without the pool: statements, receipts, invoices, shares, reserves.

One file, for Python 3.9 and newer, that imports nothing but the standard library and asks no network, so that
who audits a statement can read all of what he relies on. It says in words what it checked, what is WRONG, and
what it could not check. Exit code 0: nothing is wrong; 1: something is; 2: it cannot be read, or the command
is mistaken.

What is checked of {"content_sha256", "proof", "statement"}:

1. the file: strict JSON, byte for byte as a pool writes it, so no two programs read it differently;
2. the hash: SHA-256 of `statement` as canonical JSON (sorted keys, no spaces, ASCII);
3. the money: every settlement again from its shares and its price, in exact fractions, with what it carried;
   the sums of each rate; its block fees again, from the blocks that they are the mean of; of blocks that were
   divided over the tenant's work its part of each;
   opening + credits + divided - payouts + adjustments - energy + grid = closing;
   what was taken for energy and what the grid paid, against what is told of both;
   with --previous, that all shares that were counted in the period before are in settlements;
4. the signature (BIP340) over that hash and all of `proof`;
5. the root: its hash and signature, and the way from each of the tenant's leaves to it. The leaves together
   are the closing balance, so the tenant is in the total that everybody was told;
6. with --roots: that it is one of one chain of roots, the same for everybody; with --previous: that the
   statement goes on from the one before it; with --key: that the signer is the one you know;
7. with --reserve: that the reserve of that root is as much as is owed to all, as below.

What is checked of an hour's shares, {"closings", "hour_utc", "settlements", "tenant", "version", "whole"}:

1. the file, as above;
2. each closing: its hash and signature; with --roots, that it is one of one chain, the same for everybody;
3. each settlement: the way from its leaf to the root of its closing;
4. each share: that its header is the work that it says, of that hour, there once, and in the root of its
   settlement: all of them, or the one and its way;
5. the count: no more of them than the settlement's credited work gives, so that no work was left out of it;
6. with --against, a statement: that both have the same settlements of that hour, with the same figures.

Tagged hashes are those of BIP340: tagged(t, x) = SHA-256(SHA-256(t) | SHA-256(t) | x). Numbers are 8 bytes,
big end first.

    leaf   tagged("angara/leaf", amount | nonce | name of the tenant)
    node   tagged("angara/node", left hash | left sum | right hash | right sum), its sum the sum of both
    root   tagged("angara/root", the row without "hash" and "signature" as canonical JSON), which is signed
    signed tagged("angara/statement", {"content_sha256", "proof" without its "signature"} as canonical JSON)

    share   tagged("angara/share", header | exponent of its difficulty, 1 byte | minute, 8 bytes | worker)
    pair    tagged("angara/pair", left | right); beside the last one of an odd number stand 32 zeros
    settled tagged("angara/settled", "settlement" as canonical JSON)
    closing tagged("angara/closing", the row without "hash" and "signature" as canonical JSON), signed
    change  tagged("angara/key", the row without "hash", "signature", "former_signature" as canonical JSON),
            signed by the new key and by the former one

Roots and closings are chains: each names the hash of the one before it. A change of the pool's key stands in
both, between the rows that the former key signed and those of the new one. With --key of either, and --roots,
keys are followed from one to the next by what each signed; one that was lost signed nothing, and is said.
A list itself is checked where it is the file, and with --previous, each of those before, that it says what
they said and goes on from them.

Both sums are in a node's hash, for else a pool could tell one client that the other side is less than it is
(Chalkias and others, Broken Proofs of Solvency, 2022). The name is in the leaf, so no two tenants can be
shown the same one.

What is checked of a list of receipts, each of what an hour of an order came to:

1. file, hash and signature of each, as above; receipt tagged("angara/receipt", the receipt without "hash" and
   "signature" as canonical JSON), which is signed;
2. the figures: work sold and delivered, and the price of it, from its shares and its terms; what is made
   good;
3. the chain: no number and no hour is missing or there twice, and each goes on from the one before it;
4. chance: the work that is billed, against what the shares stand for that were sent to the buyer's pool;
5. with --previous, each list that was given before: that it is told as it was, and the first one here goes on
   from the last one there, or which are missing between; with --counted: that the accepted shares are those
   that the buyer's own pool counted, by target and hour, to the share.

What is checked of an invoice, {"content_sha256", "invoice", "proof"}:

1. file and hash, as those of a statement; signed is tagged("angara/invoice", the hash);
2. the figures: each line's amount from its work and the price, what it posts with what was carried, the sum;
3. with --previous, each of the invoices before it: that they go on from one another, and none charges a part
   of an hour again;
4. with --against, receipts of the order: that no hour has more work in the invoices than in its receipts, and
   that what those make good is in them.

What is checked of a reserve, the coins beside a root:

1. file, hash and signature, and the root, as above; reserve tagged("angara/reserve", the reserve without
   "hash" and "signature" as canonical JSON), which is signed;
2. each coin: that it is there once, and is that output of the transaction that it names;
3. each coin's own signature (BIP322, proof of funds): of the message that names the root, the total, the
   pool's key, and a block, so that it is of no other pool, no other day, and was not made before that block;
4. that all coins together are as much as the root says is owed to all; with --roots, as of a statement.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from fractions import Fraction
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

VERSION = 1
RECEIPT_VERSION = 1
FILE_BYTES_MAX = 64 << 20  # a year of a tenant whose price changes with each block is a third of it
VALUES_MAX = 2_000_000  # of a file: what they take in memory is a hundred times what they take there
DIGITS_MAX = 30  # of a number
MONEY_SAT_MAX = 21 * 10**14  # more than there will ever be
COUNT_MAX = 1 << 62
PATH_MAX = 40  # levels of a tree
LEAVES_MAX = 64  # of one tenant
ROOTS_MAX = 7_305  # of a list: twenty years, a minute
RECEIPTS_MAX = 87_672  # of an order: ten years of hours, ten minutes
SIGMAS = 5  # how far off chance may be
CHANGES_MAX = 200  # of the key: ten a year
CLOSINGS_MAX = 200_000  # likewise: each hour of twenty years
SETTLEMENTS_MAX = 10_000  # of an hour
COINS_MAX = 2_000  # of a reserve: a minute
WORKS_MAX = (
    100  # of a block, by fee: fractions of which no two are alike take a hundred times as long for ten
)
TARGETS_MAX = 1_000  # of an hour: likewise
PSAT = 10**12  # of a satoshi
DAY_S = 86_400

Point = Tuple[int, int, int]  # Jacobian: x / z^2, y / z^3; z = 0 is infinity


class Unreadable(Exception):
    """It is no statement and no receipts: in words, why."""


# Signatures: BIP340 on secp256k1. Nothing here is secret, so nothing has to take the same time always.

FIELD = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G_X = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
G_Y = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8
INFINITY: Point = (0, 1, 0)


def doubled(point: Point) -> Point:
    x, y, z = point
    if not z:
        return INFINITY
    ys = y * y % FIELD
    s = 4 * x * ys % FIELD
    m = 3 * x * x % FIELD
    x3 = (m * m - 2 * s) % FIELD
    return x3, (m * (s - x3) - 8 * ys * ys) % FIELD, 2 * y * z % FIELD


def added(a: Point, b: Point) -> Point:
    if not a[2]:
        return b
    if not b[2]:
        return a
    za, zb = a[2] * a[2] % FIELD, b[2] * b[2] % FIELD
    xa, xb = a[0] * zb % FIELD, b[0] * za % FIELD
    ya, yb = a[1] * b[2] * zb % FIELD, b[1] * a[2] * za % FIELD
    if xa == xb:
        return doubled(a) if ya == yb else INFINITY
    h, r = xb - xa, yb - ya
    hh = h * h % FIELD
    hhh, v = h * hh % FIELD, xa * hh % FIELD
    x = (r * r - hhh - 2 * v) % FIELD
    return x, (r * (v - x) - ya * hhh) % FIELD, h * a[2] * b[2] % FIELD


def lifted(x: int) -> Optional[Point]:
    """The point of this x whose y is even, if there is one."""
    square = (pow(x, 3, FIELD) + 7) % FIELD
    y = pow(square, (FIELD + 1) // 4, FIELD)
    if x >= FIELD or y * y % FIELD != square:
        return None
    return x, y if y % 2 == 0 else FIELD - y, 1


def signed_by(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether that key signed it (BIP340, Verification)."""
    if len(key) != 32 or len(signature) != 64:
        return False
    point = lifted(int.from_bytes(key, "big"))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if point is None or r >= FIELD or s >= ORDER:
        return False
    challenge = int.from_bytes(tagged("BIP0340/challenge", signature[:32] + key + message), "big") % ORDER
    found = combined(s, ORDER - challenge, point)
    return found is not None and found[1] % 2 == 0 and found[0] == r


def combined(a: int, b: int, point: Point) -> Optional[Tuple[int, int]]:
    """x and y of a G + b P, both at once; None of infinity."""
    g, found = (G_X, G_Y, 1), INFINITY
    both = added(g, point)
    for bit in range(255, -1, -1):
        found = doubled(found)
        which = (a >> bit & 1) + 2 * (b >> bit & 1)
        if which:
            found = added(found, (g, point, both)[which - 1])
    if not found[2]:
        return None
    inverse = pow(found[2], FIELD - 2, FIELD)
    return found[0] * inverse**2 % FIELD, found[1] * inverse**3 % FIELD


# Hashes


def tagged(tag: str, data: bytes) -> bytes:
    head = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(head + head + data).digest()


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def row_hash(tag: str, row: Dict[str, Any]) -> bytes:
    """Of a row of a chain, which is signed."""
    return tagged(tag, canonical({k: v for k, v in row.items() if k not in ("hash", "signature")}))


def root_hash(row: Dict[str, Any]) -> bytes:
    """Of a row of the chain of roots."""
    return row_hash("angara/root", row)


def receipt_hash(row: Dict[str, Any]) -> bytes:
    """Of a receipt of an order."""
    return row_hash("angara/receipt", row)


def closing_hash(row: Dict[str, Any]) -> bytes:
    """Of a row of the chain of closings."""
    return row_hash("angara/closing", row)


def key_change_hash(row: Dict[str, Any]) -> bytes:
    """Of a change of the key, in the chain of roots and in that of closings."""
    return row_hash("angara/key", {k: v for k, v in row.items() if k != "former_signature"})


NOTHING = bytes(32)  # beside the last one of an odd number


def pair(left: bytes, right: bytes) -> bytes:
    return tagged("angara/pair", left + right)


def settled_leaf(settlement: Dict[str, Any]) -> bytes:
    return tagged("angara/settled", canonical(settlement))


def share_leaf(header: bytes, difficulty_log2: int, minute: int, worker: str) -> bytes:
    """All but the name have one length, so no name makes a leaf another one's."""
    facts = difficulty_log2.to_bytes(1, "big", signed=True) + minute.to_bytes(8, "big")
    return tagged("angara/share", header + facts + worker.encode())


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def reaches(header_hash: bytes, difficulty_log2: int) -> bool:
    """Whether it is of difficulty 2**difficulty_log2 or more."""
    most = DIFF1 >> difficulty_log2 if difficulty_log2 >= 0 else DIFF1 << -difficulty_log2
    return int.from_bytes(header_hash, "little") <= most


def climbed(digest: bytes, index: int, path: List[bytes]) -> bytes:
    """What is above a leaf."""
    for level, beside in enumerate(path):
        digest = pair(beside, digest) if index >> level & 1 else pair(digest, beside)
    return digest


def signed_message(content_sha256: str, proof: Dict[str, Any]) -> bytes:
    """What a statement's signature is over."""
    rest = {name: value for name, value in proof.items() if name != "signature"}
    return tagged("angara/statement", canonical({"content_sha256": content_sha256, "proof": rest}))


# Reading: whatever is in a file, it ends in a value of the right form or in Unreadable.


def without_doubles(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable("an object has two members of the same name")
    return found


def short_number(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise Unreadable(f"a number of {len(text)} digits")
    return int(text)


def no_number(text: str) -> Any:
    raise Unreadable(f"{text[:DIGITS_MAX]} is no whole number")


def parsed(data: bytes) -> Any:
    if sum(map(data.count, (b",", b"[", b"{"))) > VALUES_MAX:
        raise Unreadable(f"more than {VALUES_MAX} values")
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=without_doubles,
            parse_int=short_number,
            parse_float=no_number,
            parse_constant=no_number,
        )
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON: {str(error)[:200]}") from None


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot read it: {error}") from None
    if len(data) > FILE_BYTES_MAX:
        raise Unreadable(f"it is larger than {FILE_BYTES_MAX >> 20} MiB")
    return data


def as_written(value: Any) -> bytes:
    """As a pool writes it: keys sorted, two spaces, one newline at the end."""
    try:
        return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        raise Unreadable("it has text that is none") from None


def table(value: Any, what: str) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable(f"{what} is no object")
    return value


def member(of: Any, name: str) -> Any:
    if name not in table(of, f"what has {name!r}"):
        raise Unreadable(f"there is no {name!r}")
    return of[name]


def text(of: Any, name: str, form: str = "") -> str:
    value = member(of, name)
    if not isinstance(value, str) or (form and not re.fullmatch(form, value, re.ASCII)):
        raise Unreadable(f"{name!r} is not of its form")
    return value


def unhex(of: Any, name: str, size: int) -> bytes:
    return bytes.fromhex(text(of, name, f"[0-9a-f]{{{2 * size}}}"))


def whole(of: Any, name: str, top: int = COUNT_MAX, default: Optional[int] = None) -> int:
    """A whole number whose size is at most `top`."""
    if default is not None and name not in table(of, f"what has {name!r}"):
        return default
    value = member(of, name)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > top:
        raise Unreadable(f"{name!r} is no number up to {top}")
    return value


def natural(of: Any, name: str, top: int = COUNT_MAX) -> int:
    value = whole(of, name, top)
    if value < 0:
        raise Unreadable(f"{name!r} is below zero")
    return value


def money(of: Any, name: str) -> int:
    return natural(of, name, MONEY_SAT_MAX)


def rows(of: Any, name: str, at_most: int = VALUES_MAX) -> List[Any]:
    value = member(of, name)
    if not isinstance(value, list) or len(value) > at_most:
        raise Unreadable(f"{name!r} is no list of up to {at_most}")
    return value


def ratio(of: Any, name: str) -> Fraction:
    above, below = text(of, name, r"\d{1,600}/\d{1,600}").split("/")
    if not int(below):
        raise Unreadable(f"{name!r} is divided by nothing")
    return Fraction(int(above), int(below))


def decimal(of: Any, name: str) -> Fraction:
    return Fraction(text(of, name, r"\d{1,60}(\.\d{1,80})?"))


def moment(of: Any, name: str) -> int:
    """Seconds since 1970 of 2026-09-01T06:00:00Z."""
    found = re.fullmatch(r"(.{10})T(\d\d):(\d\d):(\d\d)Z", text(of, name), re.ASCII)
    if found is None:
        raise Unreadable(f"{name!r} is no moment")
    return day_number(found[1], name) * DAY_S + int(found[2]) * 3600 + int(found[3]) * 60 + int(found[4])


def day_number(day: str, what: str) -> int:
    """Days since 1970 of 2026-09-01 (Howard Hinnant, days_from_civil)."""
    found = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", day, re.ASCII)
    if found is None or not 1 <= int(found[2]) <= 12 or not 1 <= int(found[3]) <= 31:
        raise Unreadable(f"{what!r} is no day")
    year, month = int(found[1]) - (int(found[2]) <= 2), (int(found[2]) + 9) % 12
    of_era = year % 400
    of_year = (153 * month + 2) // 5 + int(found[3]) - 1
    return year // 400 * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def check_exact(value: Any, known: Any, what: str) -> None:
    if table(value, what).keys() != set(known):
        raise Unreadable(f"{what} has other members than {sorted(known)}")


def yes_or_no(of: Any, name: str) -> bool:
    value = member(of, name)
    if not isinstance(value, bool):
        raise Unreadable(f"{name!r} is neither true nor false")
    return value


def hashes(of: Any, name: str) -> List[bytes]:
    found = rows(of, name, PATH_MAX)
    return [unhex({"": it}, "", 32) for it in found]


def in_sat(psat: int) -> str:
    return f"{psat // PSAT}.{psat % PSAT:012}"


def utc(at_s: int) -> str:
    """2026-09-01T06:00Z of seconds since 1970 (Howard Hinnant, civil_from_days)."""
    days = at_s // DAY_S + 719_468
    of_era = days % 146_097
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    year += days // 146_097 * 400 + (month >= 10)
    month, day = month + (3 if month < 10 else -9), of_year - (153 * month + 2) // 5 + 1
    return f"{year:04}-{month:02}-{day:02}T{at_s % DAY_S // 3600:02}:{at_s % 3600 // 60:02}Z"


# Prices

DIFF1 = 0xFFFF << 208  # the target of difficulty 1
HALVING_INTERVALS = {"main": 210_000, "test": 210_000, "testnet4": 210_000, "signet": 210_000, "regtest": 150}


def target(nbits: str) -> int:
    number = int(nbits, 16)
    exponent, mantissa = number >> 24, number & 0x7FFFFF
    found = mantissa << 8 * (exponent - 3) if exponent >= 3 else mantissa >> 8 * (3 - exponent)
    if number & 0x800000 or not 0 < found < 1 << 256:
        raise Unreadable(f"nBits {nbits} are none")
    return found


def subsidy_sat(height: int, interval: int) -> int:
    halvings = height // interval
    return 50 * 10**8 >> halvings if halvings < 64 else 0


# Schemes of the pool that pay nothing for a share of its own work: blocks pay, or an upstream.
UNPAID = ("solo", "proxy", "pplns1", "pplns2", "pplns4", "pplns8", "tides")


class Price:
    """Of a row of `rates`: what shares are worth before the pool's fee, and who gets how much of it."""

    def __init__(self, rate: Any) -> None:
        self.scheme = text(rate, "scheme", "|".join(["pps", "fpps", *UNPAID]))
        self.target = target(text(rate, "nbits", "[0-9a-f]{8}"))
        self.fee_bps = natural(rate, "fee_bps", 10_000)
        subsidy, fees = money(rate, "subsidy_sat"), money(rate, "block_fees_sat")
        self.block_sat = {"pps": subsidy, "fpps": subsidy + fees}.get(self.scheme, 0)
        self.sold = rate.get("sat_per_ph_day") is not None and self.scheme in ("pps", "fpps")
        self.sat_per_ph_day = money(rate, "sat_per_ph_day") if self.sold else 0
        self.goes_by_fees = self.scheme == "fpps" and not self.sold

    def worth_sat(self, difficulty: Fraction, shares: int) -> Fraction:
        if self.sold:
            hashes = difficulty * shares * (1 << 256) / DIFF1
            return hashes / (10**15 * DAY_S) * self.sat_per_ph_day
        return min(Fraction(1), difficulty * self.target / DIFF1) * shares * self.block_sat

    def psat(self, worth_sat: Fraction) -> Tuple[int, int]:
        """The tenant's part and the pool's, each rounded down to 10^-12 satoshi."""
        psat = worth_sat * PSAT
        return int(psat * (10_000 - self.fee_bps) / 10_000), int(psat * self.fee_bps / 10_000)


# What is found out


class Report:
    """What was checked, what is wrong, and what could not be checked."""

    def __init__(self) -> None:
        self.good: List[str] = []
        self.wrong: List[str] = []
        self.open: List[str] = []

    def check(self, holds: bool, good: str, wrong: str = "") -> bool:
        (self.good if holds else self.wrong).append(good if holds or not wrong else wrong)
        return holds

    def take(self, what: str, other: "Report") -> None:
        """What is wrong with another file."""
        self.wrong += [f"{what}: {it}" for it in other.wrong]

    def same(self, what: str, said: object, found: object) -> bool:
        """Wrong where they differ; who agrees is told once, by who asked for several of these."""
        if said != found:
            self.wrong.append(f"{what}: it says {said}, and it is {found}")
        return said == found


def read_beside(path: str, report: Report) -> Any:
    """Another file that a pool wrote."""
    data = read(path)
    value = parsed(data)
    check_file(data, value, report)
    return value


def check_file(data: bytes, value: Any, report: Report) -> None:
    report.check(
        data == as_written(value),
        "the file is byte for byte as a pool writes it",
        "the file is not byte for byte as a pool writes it: another program has saved it",
    )


# Keys, and the chains that they sign

KEY_CHANGE = {
    *("change", "former", "key", "root", "root_hash", "closing", "closing_hash", "lost", "at_utc"),
    *("network", "genesis", "book", "previous", "hash", "signature", "former_signature"),
}
ZEROS = "0" * 64  # before the first of a chain


def is_change(row: Any) -> bool:
    return "change" in table(row, "a row of a list")


def signed_by_former(row: Any) -> bool:
    """Whether the key before a change signed it: nothing is there where that key is lost."""
    if yes_or_no(row, "lost"):
        return False
    return signed_by(unhex(row, "former", 32), key_change_hash(row), unhex(row, "former_signature", 64))


def changes_among(listed: Any) -> List[Any]:
    found = [it for it in listed if is_change(it)] if isinstance(listed, list) else []
    if len(found) > CHANGES_MAX:
        raise Unreadable(f"more than {CHANGES_MAX} changes of keys")
    return found


class Keys:
    """The key that is known, and those of a list that follow it or go before it: each change is signed by the
    key before it."""

    def __init__(self, known: bytes, listed: Any = None) -> None:
        self.known = known.hex()
        self.sound = {self.known}
        changes = changes_among(listed)
        self.replaced = {text(it, "former"): moment(it, "at_utc") for it in changes}
        signed = [(it["former"], text(it, "key")) for it in changes if signed_by_former(it)]
        for former, key in signed:
            self.sound |= {key} if former in self.sound else set()
        for former, key in reversed(signed):
            self.sound |= {former} if key in self.sound else set()

    def check(self, what: str, signer: str, report: Report) -> bool:
        if signer not in self.sound:
            report.wrong.append(
                f"{what} is {signer}, which does not follow from the one that you gave, {self.known}:"
                " no change to it is signed by that, or --roots is not given"
            )
        elif signer == self.known:
            report.good.append(f"{what} is the one that you gave")
        else:
            report.good.append(f"{what} is {signer}: the one that you gave signed it, or it that one")
        if signer in self.replaced:
            report.open.append(
                f"{what}: it was replaced at {utc(self.replaced[signer])}, and whoever has it can still sign"
                " what is of before: hold it against what you were given then"
            )
        return signer in self.sound


def check_whose(what: str, signer: str, report: Report, key: Optional[Keys]) -> None:
    """Whether it is the key that is known, or follows from it."""
    if key is None:
        report.open.append(f"whose key {signer} is: give the one you know with --key")
    else:
        key.check(what, signer, report)


def check_change(row: Any, report: Report) -> None:
    """A change of the key, by itself."""
    check_exact(row, KEY_CHANGE, "a change of keys")
    for name in ("former", "key", "root_hash", "closing_hash", "genesis", "book", "previous"):
        unhex(row, name, 32)
    number = natural(row, "change")
    for name in ("root", "closing"):
        natural(row, name)
    text(row, "network")
    moment(row, "at_utc")
    digest, found = unhex(row, "hash", 32), key_change_hash(row)
    report.same(f"hash of change {number} of keys", digest.hex(), found.hex())
    report.check(
        signed_by(unhex(row, "key", 32), found, unhex(row, "signature", 64)),
        "",
        f"change {number} of keys is not signed by the new key",
    )
    if yes_or_no(row, "lost"):
        report.same(f"signature of a lost key, of change {number}", text(row, "former_signature"), "")
        report.open.append(
            f"why the key is {row['key']} from change {number} on: the one before it, {row['former']},"
            " did not sign that, as it is lost. Whoever the pool is says so in the way in which he told you"
            " the first"
        )
    elif not signed_by_former(row):
        report.wrong.append(f"change {number} of keys is not signed by the former key")


class Chain:
    """Rows of a list, each of which names the one before it, and the changes of the key among them. `what`
    they are: root, or closing."""

    def __init__(self, what: str, report: Report) -> None:
        self.what, self.report = what, report
        self.row: Any = None
        self.change: Any = None
        self.number: Optional[int] = None
        self.link: Optional[str] = None
        self.key: Optional[str] = None

    def take(self, row: Any, signed: bool = True) -> None:
        """One row more. `signed`: look at its signature; each is in the hash of the one after it."""
        if is_change(row):
            self.changes_key(row)
            return
        alone, number, same = Report(), natural(row, "number"), self.report.same
        if self.what == "closing":
            check_closing(row, alone, signed)
        else:
            check_root(row, alone)
        self.report.wrong += alone.wrong
        if self.row is not None:
            self._is_later(row, f"{self.what} {number}")
        if self.number is not None:
            same(f"number of a {self.what}", number, self.number + 1)
        if self.link is not None or number == 1:
            same(f"what is before {self.what} {number}", text(row, "previous"), self.link or ZEROS)
        else:
            self.report.open.append(f"{self.what}s before {number}: the list begins there")
        self._signed(row, f"{self.what} {number}", text(row, "key"))
        self.row, self.number, self.link = row, number, text(row, "hash")

    def _is_later(self, row: Any, name: str) -> None:
        before, later = self.row, self.row["ledger_seq"] <= row["ledger_seq"]
        if self.what == "closing":
            first = before["last_settlement"] + 1
            self.report.same(f"first settlement of {name}", row["first_settlement"], first)
        else:
            later &= day_number(before["day"], "day") < day_number(row["day"], "day")
        self.report.check(later, "", f"{name} is not later than the one before it")

    def changes_key(self, row: Any) -> None:
        check_change(row, self.report)
        number, behind, same = row["change"], row[self.what], self.report.same
        if self.number is not None:
            same(f"{self.what} that change {number} of keys is behind", behind, self.number)
        if self.link is not None or behind == 0:
            same(f"what is before change {number} of keys", row[f"{self.what}_hash"], self.link or ZEROS)
        if self.change is not None or number == 1:
            before = (0, ZEROS) if self.change is None else (self.change["change"], self.change["hash"])
            same(f"change before change {number} of keys", (number - 1, row["previous"]), before)
        self._signed(row, f"change {number} of keys", row["former"])
        self.change, self.number, self.link, self.key = row, behind, row["hash"], row["key"]

    def _signed(self, row: Any, name: str, key: str) -> None:
        """By whose turn it is, in the same book as the one before it."""
        if self.key not in (None, key):
            self.report.wrong.append(f"{name} is of the key {key}, and nothing changed {self.key} to that")
        before = self.row or self.change
        if before is not None and any(row[it] != before[it] for it in ("network", "genesis", "book")):
            self.report.wrong.append(f"{name} is not of the same book as the one before it")
        self.key = key


def check_chain(what: str, rows: List[Any], report: Report) -> Chain:
    """Rows of a list, one after the other: the newest signature is of all."""
    links = Chain(what, report)
    for row in rows:
        links.take(row, row is rows[-1])
    return links


def check_list(chain: Any, report: Report, key: Optional[Keys]) -> None:
    """A list of roots, or of closings."""
    closings = any("first_settlement" in table(it, "a row of a list") for it in chain)
    check_listed("closing" if closings else "root", chain, [], report, key)


def check_listed(
    what: str, chain: Any, shown: List[Any], report: Report, key: Optional[Keys], of: str = ""
) -> None:
    """A list of roots or of closings: one chain of one book, and those that a file is `of` are in it."""
    at_most = {"root": ROOTS_MAX, "closing": CLOSINGS_MAX}[what]
    if not isinstance(chain, list) or not 0 < len(chain) <= at_most:
        raise Unreadable(f"the {what}s are no list of 1 to {at_most}")
    changes_among(chain)
    wrong = len(report.wrong)
    links = check_chain(what, chain, report)
    if key is not None and links.key is not None:
        key.check(f"key of the newest {what}", links.key, report)
    at = {row["number"]: row for row in chain if not is_change(row)}
    for row in shown:
        number = natural(row, "number")
        report.check(
            at.get(number) == row, "", f"{what} {number} of the {of} is not in the list: others see another"
        )
    if len(report.wrong) == wrong:
        mine = f", and what the {of} is of is in it" if shown else ""
        report.good.append(f"{len(chain)} rows of {what}s are one chain{mine}")


def is_list(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and bool({"day", "first_settlement", "change"} & first.keys())


def place_in_list(row: Any) -> Tuple[str, int]:
    if is_change(row):
        return "change of keys", natural(row, "change")
    what = "receipt" if "hour_utc" in row else "closing" if "first_settlement" in row else "root"
    return what, natural(row, "number")


def really_signed(row: Any) -> Optional[str]:
    """The key that said it: of a change the former one."""
    if is_change(row):
        return row["former"] if signed_by_former(row) else None
    hashed = {"root": root_hash, "closing": closing_hash, "receipt": receipt_hash}
    digest, key = hashed[place_in_list(row)[0]](row), text(row, "key")
    holds = key and digest == unhex(row, "hash", 32)
    return key if holds and signed_by(unhex(row, "key", 32), digest, unhex(row, "signature", 64)) else None


def check_told(chain: List[Any], files: List[Any], report: Report) -> None:
    """That a list, or receipts, say of everything what earlier ones said, and go on from there."""
    here, found, wrong = {place_in_list(it): it for it in chain}, 0, len(report.wrong)
    kind = next((what for what, _ in here if what != "change of keys"), "root")
    begins = min((number for what, number in here if what == kind), default=0)
    told: Dict[Tuple[str, int], Any] = {}
    for row in (it for listed in files for it in (listed if isinstance(listed, list) else [listed])):
        place = what, number = place_in_list(row)
        if what not in (kind, "change of keys"):
            raise Unreadable(f"what you were given before has a {what}, and this has none")
        now = here.get(place, told.get(place))
        if now is None:
            told[place] = row
            if position(row, kind) >= begins:
                report.wrong.append(f"{what} {number}, which you were given before, is missing")
        elif unhex(now, "hash", 32) != unhex(row, "hash", 32):
            signers = really_signed(now), really_signed(row)
            two = f", and {signers[0]} signed both: keep both files, they prove it" if signers[0] else ""
            report.wrong.append(
                f"{what} {number} is another one than you were given before"
                + (two if signers[0] == signers[1] else "")
            )
        else:
            found += place in here
    before = [it for it in told.values() if position(it, kind) < begins]
    check_goes_on(sorted(before, key=lambda it: (position(it, kind), is_change(it))), chain[0], kind, report)
    if not found and not before:
        report.open.append("whether this goes on from what you were given before: no row is in both")
    elif found and len(report.wrong) == wrong:
        report.good.append(f"{found} rows are as you were given them before")


def position(row: Any, kind: str) -> int:
    """In the list: of a change that of the row that it is behind."""
    return natural(row, kind if is_change(row) else "number")


def check_goes_on(before: List[Any], first: Any, kind: str, report: Report) -> None:
    """From rows that were given before to the first that is here: by hash where one is behind the other, and
    where some are missing between, which these are."""
    runs: List[List[Any]] = []
    last, alone = 0, Report()
    for row in [*before, first] if before else []:
        missing = position(row, kind) - (not is_change(row))  # the newest that is to be before it
        if runs and missing > last:
            names = f"{kind} {missing}" if missing == last + 1 else f"{kind}s {last + 1} to {missing}"
            report.open.append(f"{names}, which are in none of these files, and what goes on from what there")
        if not runs or missing > last:
            runs.append([])
        runs[-1].append(row)
        last = position(row, kind)
    for run in runs:
        if kind == "receipt":
            check_run(run, alone)
        else:
            check_chain(kind, run, alone)
    report.take("with what you were given before", alone)
    if runs and len(runs[-1]) > 1 and not alone.wrong:
        what, number = place_in_list(runs[-1][-2])
        report.good.append(f"it goes on from {what} {number}, which you were given before")


# Statements


def check_statement(value: Any, report: Report, key: Optional[Keys] = None) -> None:
    """Everything that one statement says of itself."""
    statement = table(member(value, "statement"), "statement")
    content = text(value, "content_sha256", "[0-9a-f]{64}")
    found = hashlib.sha256(canonical(statement)).hexdigest()
    report.check(content == found, f"content hash {content}", f"the content hash is {found}, not {content}")
    proof = value.get("proof")
    known = {"content_sha256", "statement"} | ({"proof"} if "proof" in value else set())
    if value.keys() != known:
        report.wrong.append(
            f"there is more in the file than a statement: {sorted(value.keys() - known)!r:.200}"
        )
    check_sums(statement, report)
    check_divided(statement, report)
    check_rows(statement, report)
    if proof is None:
        report.check(key is None, "", "it is not signed, and a key is given that should have signed it")
        report.open.append("who made it, and whether it was changed: it carries no signature")
        report.open.append("whether the balance is in the total of all liabilities: it names no root")
        report.open.append("the price of each settlement: only a signed statement has its shares")
    else:
        check_settlements(statement, proof, report)
        tell_uncredited(statement, proof, report)
        check_block_fees(statement, proof, report)
        check_signature(value, proof, report, key)
        check_root(member(proof, "root"), report)
        check_leaves(statement, proof, report)
    tell_what_is_open(statement, report)


def check_sums(statement: Any, report: Report) -> None:
    """The balance, and every list that adds up to a figure of it."""
    of, wrong = member(statement, "money"), len(report.wrong)
    closing = money(of, "closing_sat")
    opening, paid = money(of, "opening_sat"), whole(of, "payouts_sat", MONEY_SAT_MAX)
    credits, adjusted = money(of, "credits_sat"), whole(of, "adjustments_sat", MONEY_SAT_MAX)
    energy = whole(of, "energy_sat", MONEY_SAT_MAX, default=0)
    grid = whole(of, "grid_sat", MONEY_SAT_MAX, default=0)
    divided = whole(of, "divided_sat", MONEY_SAT_MAX, default=0)
    report.same("closing balance", closing, opening + credits + divided - paid + adjusted - energy + grid)
    parts = money(of, "closing_payable_sat") + money(of, "closing_in_payout_sat")
    report.same("closing balance by its parts", closing, parts)
    listed = sum(whole(it, "amount_sat", MONEY_SAT_MAX) for it in rows(statement, "adjustments"))
    report.same("adjustments", adjusted, listed)
    timeline = rows(statement, "timeline")
    report.same("credits of the timeline", credits, sum(money(it, "credit_sat") for it in timeline))
    booked = sum(whole(it, "booked_sat", MONEY_SAT_MAX) for it in rows(statement, "payouts"))
    report.same("payouts, as they are listed", paid, booked)
    reserve = member(statement, "reserve")
    owed, free = money(reserve, "owed_sat"), whole(reserve, "free_sat")
    report.same("what the pool has free", free, whole(reserve, "matured_sat") - owed)
    report.check(closing <= owed, "", f"the balance is above all that the pool says it owes, {owed} sat")
    power = statement.get("energy")
    received = sum(money(it, "tenant_sat") for it in rows(power, "payments")) if power is not None else 0
    report.same("what the grid paid", grid, received)
    if power is None:
        report.same("energy that was collected, of which nothing is told", energy, 0)
    else:
        due = whole(power, "due_before_sat") + whole(power, "charged_sat") - whole(power, "collected_sat")
        report.same("energy that is due", whole(power, "due_after_sat"), due)
        report.same("energy that was collected", energy, whole(power, "collected_sat"))
        charged = sum(
            whole(it, "cost_sat") * PSAT + natural(it, "cost_psat") for it in rows(power, "charges")
        )
        carried = whole(power, "carry_in_psat") - whole(power, "carry_out_psat")
        report.same("energy that was charged, in psat", whole(power, "charged_sat") * PSAT, charged + carried)
    if len(report.wrong) == wrong:
        report.good.append(
            f"balance: {opening} + {credits} credits + {divided} of blocks - {paid} payouts"
            f" {'+-'[adjusted < 0]} {abs(adjusted)} adjustments - {energy} energy + {grid} grid"
            f" = {closing} sat"
        )


# How many expected blocks of work a block is divided over.
WINDOWS = {"pplns1": 1, "pplns2": 2, "pplns4": 4, "pplns8": 8, "tides": 8}


def check_divided(statement: Any, report: Report) -> None:
    """The tenant's part of each block that was divided, from its work, its fee and what it carried."""
    booked = whole(member(statement, "money"), "divided_sat", MONEY_SAT_MAX, default=0)
    divided, wrong = statement.get("divided"), len(report.wrong)
    if divided is None:
        report.same("what blocks brought that were divided, in sat", booked, 0)
        return
    posted, carry, known = 0, None, set()
    for it in rows(divided, "blocks"):
        block = text(it, "hash", "[0-9a-f]{64}")
        window = WINDOWS[text(it, "scheme", "|".join(WINDOWS))]
        report.same(f"window of block {block}", natural(it, "window_blocks"), window)
        work = credit = fee = Fraction(0)
        for part in rows(it, "works", WORKS_MAX):
            bps, blocks = natural(part, "fee_bps", 10_000), ratio(part, "blocks")
            work, credit, fee = work + blocks, credit + blocks * (10_000 - bps), fee + blocks * bps
        full = ratio(it, "full_blocks")
        fits = block not in known and 0 < work <= full <= window
        report.check(fits, "", f"block {block}: it is there twice, or pays more work than its window has")
        known.add(block)
        a_part = Fraction(money(it, "income_sat") * PSAT, 10_000 * window)
        credit_psat = natural(it, "credit_psat", 1 << 96)
        report.same(f"your part of block {block}, in psat", credit_psat, int(credit * a_part))
        pool_fee = natural(it, "pool_fee_psat", 1 << 96)
        report.same(f"the pool's fee of block {block}, in psat", pool_fee, int(fee * a_part))
        carried = natural(it, "carry_in_psat", PSAT - 1)
        report.same(f"what block {block} carried in, in psat", carried, carried if carry is None else carry)
        here, carry = divmod(credit_psat + carried, PSAT)
        report.same(f"what block {block} booked, in sat", natural(it, "posted_sat"), here)
        report.same(f"what block {block} carried on, in psat", natural(it, "carry_out_psat"), carry)
        posted += here
    report.same("what blocks brought that were divided, in sat", booked, posted)
    report.open.append(
        "which work a divided block pays, how much of it others did, and the luck of all of you"
    )
    if len(report.wrong) == wrong:
        report.good.append(
            f"{len(known)} blocks were divided: your part of each follows from its work, its fee and what was"
            f" carried, and they are {posted} sat"
        )


def check_rows(statement: Any, report: Report) -> None:
    """Work and credits, which are said several times."""
    of, work, wrong = member(statement, "money"), member(statement, "work"), len(report.wrong)
    total = member(work, "total")
    days = day_number(text(statement, "to_day"), "to_day") - day_number(
        text(statement, "from_day"), "from_day"
    )
    if not 0 < days <= 3653:
        raise Unreadable("the period is empty, or longer than ten years")
    sums = decimal(total, "work")
    hashrate = int(sums * (1 << 256) / DIFF1 / (days * DAY_S))
    report.same("average hashrate", natural(total, "hashrate_hps", 1 << 90), hashrate)
    for name in ("containers", "workers"):
        listed = rows(work, name)
        report.same(f"work of all {name}", sums, sum(decimal(it, "work") for it in listed))
        report.same(
            f"accepted shares of all {name}",
            natural(total, "accepted"),
            sum(natural(it, "accepted") for it in listed),
        )
    accepted = sum(natural(it, "accepted") for it in rows(statement, "timeline"))
    report.same("accepted shares of the timeline", natural(total, "accepted"), accepted)
    credit = sum(
        money(it, "credit_sat") * PSAT + natural(it, "credit_psat") for it in rows(statement, "rates")
    )
    carried = natural(of, "carry_in_psat", PSAT - 1) - natural(of, "carry_out_psat", PSAT - 1)
    report.same("credits by rate, in psat", money(of, "credits_sat") * PSAT, credit + carried)
    if len(report.wrong) == wrong:
        report.good.append("work, shares and credits are the same wherever they are said")


def check_settlements(statement: Any, proof: Any, report: Report) -> None:
    """Every settlement from its shares, price and carry; and the sums of them in `rates`."""
    of, wrong = member(statement, "money"), len(report.wrong)
    prices = {whole(rate, "rate"): (Price(rate), rate) for rate in rows(statement, "rates")}
    sums: Dict[int, List[Any]] = {rate: [0, Fraction(0), 0, 0] for rate in prices}
    hours: Dict[int, List[int]] = {rate: [] for rate in prices}
    carry, posted = natural(of, "carry_in_psat"), 0
    settled = set()
    for it in rows(proof, "settlements"):
        rate = whole(it, "rate")
        what = (rate, moment(it, "hour_utc"), natural(it, "part"))
        if rate not in prices or what in settled:
            report.wrong.append(f"settlement {what}: it is of no rate, or there twice")
            continue
        settled.add(what)
        price, worth = prices[rate][0], Fraction(0)
        for difficulty, count in settled_shares(it):
            worth += price.worth_sat(difficulty, count)
            sums[rate][0] += count
            sums[rate][1] += difficulty * count
        credit, fee = price.psat(worth)
        sums[rate][2] += credit
        sums[rate][3] += fee
        hours[rate].append(what[1])
        report.same(f"credit of settlement {what}, in psat", natural(it, "credit_psat", 1 << 96), credit)
        report.same(f"what settlement {what} carried in, in psat", natural(it, "carry_in_psat"), carry)
        here, carry = divmod(credit + carry, PSAT)
        report.same(f"what settlement {what} booked, in sat", natural(it, "posted_sat"), here)
        report.same(f"what settlement {what} carried on, in psat", natural(it, "carry_out_psat"), carry)
        posted += here
    report.same("credits", money(of, "credits_sat"), posted)
    report.same("what is carried forward, in psat", natural(of, "carry_out_psat"), carry)
    for number, (price, rate) in prices.items():
        said = [
            natural(rate, "shares"),
            decimal(rate, "work"),
            money(rate, "credit_sat") * PSAT + natural(rate, "credit_psat"),
            money(rate, "pool_fee_sat") * PSAT + natural(rate, "pool_fee_psat"),
        ]
        report.same(f"shares, work, credit and fee of rate {number}", said, sums[number])
        ends = [moment(rate, "first_hour_utc"), moment(rate, "last_hour_utc")]
        report.same(f"hours of rate {number}", ends, [min(hours[number] or [0]), max(hours[number] or [0])])
        check_terms(statement, proof, number, price, rate, report)
    if len(report.wrong) == wrong:
        report.good.append(
            f"{len(settled)} settlements at {len(prices)} prices: each follows from its shares, its price and"
            f" its carry, and they are {posted} sat and {carry} psat carried forward"
        )


def settled_shares(settlement: Any) -> List[Tuple[Fraction, int]]:
    """By their difficulty."""
    shares, found = table(member(settlement, "shares"), "shares"), []
    for log2 in shares:
        if not re.fullmatch(r"-?\d{1,3}", log2, re.ASCII) or abs(int(log2)) > 256:
            raise Unreadable(f"2^{log2!r:.20} is no difficulty")
        found.append((Fraction(2) ** int(log2), natural(shares, log2)))
    return found


def uncredited(statement: Any, proofs: List[Any]) -> Tuple[int, Fraction]:
    """Accepted shares of a statement's period, and their work, that none of the settlements are of."""
    total = member(member(statement, "work"), "total")
    shares, done = natural(total, "accepted"), decimal(total, "work")
    begins, ends = (day_number(text(statement, it), it) * DAY_S for it in ("from_day", "to_day"))
    for it in (it for proof in proofs for it in rows(proof, "settlements")):
        if begins <= moment(it, "hour_utc") < ends:
            for difficulty, count in settled_shares(it):
                shares, done = shares - count, done - difficulty * count
    return shares, done


def tell_uncredited(statement: Any, proof: Any, report: Report) -> None:
    shares, done = uncredited(statement, [proof])
    if shares > 0 or done > 0:
        report.open.append(
            f"where {shares} accepted shares of this period are credited, {part_of_work(done, statement)}:"
            " the last hour's are in the next statement. Give it with this one as --previous"
        )


def part_of_work(done: Fraction, statement: Any) -> str:
    far = int(max(done, Fraction(0)) * 1_000_000 / (decimal(statement["work"]["total"], "work") or 1))
    return f"{far // 10_000}.{far % 10_000:04} % of its work"


FEE_BLOCKS = 144  # the last ones of the chain, whose fees a price goes by
FEE_TRIM_PERCENT = 5  # of them, at each end
FEE_HOURS = 4  # that a price goes by one list: an hour, and those in which its shares are counted
FEE_LAG = 12  # blocks that the newest of them may be away from the first of its price: two hours


def check_block_fees(statement: Any, proof: Any, report: Report) -> None:
    """The block fees of each price that has some in it: the mean of the blocks that are listed, of which the
    fewest and the most are left out, rounded down."""
    listed, wrong = member(proof, "block_fees"), len(report.wrong)
    check_exact(listed, ("blocks", "bases"), "block_fees")
    prices = {whole(rate, "rate"): rate for rate in rows(statement, "rates")}
    left = {number for number, rate in prices.items() if Price(rate).goes_by_fees}
    blocks = []
    for it in rows(listed, "blocks"):
        check_exact(it, ("height", "hash", "fees_sat"), "a block")
        blocks.append((natural(it, "height"), text(it, "hash", "[0-9a-f]{64}"), money(it, "fees_sat")))
    once = blocks == sorted(set(blocks)) and len({it[1] for it in blocks}) == len(blocks)
    report.check(once, "", "the blocks behind the block fees are not in their order, or one is there twice")
    for basis in rows(listed, "bases"):
        check_exact(basis, ("rates", "blocks"), "a basis of block fees")
        chosen = chosen_blocks(rows(basis, "blocks", FEE_BLOCKS), blocks)
        for number in rows(basis, "rates"):
            if isinstance(number, bool) or not isinstance(number, int) or number not in left:
                report.wrong.append(f"block fees of rate {number!r:.40}: it goes by none, or by two lists")
                continue
            left.discard(number)
            check_basis(number, prices[number], chosen, report)
    for number in sorted(left):
        if money(prices[number], "block_fees_sat"):
            report.wrong.append(f"block fees of rate {number}: there is no list of blocks that they are of")
        else:
            report.open.append(f"why rate {number} has no block fees: it goes by no list of blocks")
    if blocks and len(report.wrong) == wrong:
        report.good.append(f"block fees of the prices are the means of {len(blocks)} blocks that are listed")


def chosen_blocks(runs: List[Any], blocks: List[Tuple[int, str, int]]) -> List[Tuple[int, str, int]]:
    found: List[Tuple[int, str, int]] = []
    following = 0
    for run in runs:
        if not isinstance(run, list) or len(run) != 2:
            raise Unreadable("a basis of block fees has no first and last block")
        first, last = (natural({"block": it}, "block") for it in run)
        if not following <= first <= last < len(blocks) or last - first >= FEE_BLOCKS:
            raise Unreadable("a basis of block fees has other blocks than are listed")
        found += blocks[first : last + 1]
        following = last + 1
    return found


def check_basis(number: int, rate: Any, chosen: List[Tuple[int, str, int]], report: Report) -> None:
    """Which blocks these are is not the pool's choice: the last ones, without a gap."""
    heights = [it[0] for it in chosen]
    follow = heights == list(range(heights[0], heights[0] + len(heights))) if heights else False
    begins = natural(rate, "height_from")
    young = follow and heights[0] <= 1 and begins <= FEE_BLOCKS + FEE_LAG  # a chain that has no more of them
    whole_list = len(heights) == FEE_BLOCKS or young
    if not follow or not whole_list:
        report.wrong.append(
            f"block fees of rate {number}: {len(heights)} blocks, and not {FEE_BLOCKS} one after the other"
        )
        return
    fees = sorted(it[2] for it in chosen)
    cut = len(fees) * FEE_TRIM_PERCENT // 100
    kept = fees[cut : len(fees) - cut]
    report.same(f"block fees of rate {number}", money(rate, "block_fees_sat"), sum(kept) // len(kept))
    if heights[-1] > begins + FEE_LAG:
        report.wrong.append(f"block fees of rate {number}: its blocks are later than the work")
    elif heights[-1] < begins - FEE_LAG:
        report.open.append(
            f"why rate {number}, from height {begins} on, goes by fees of blocks up to {heights[-1]},"
            f" {sum(kept) // len(kept)} sat each: a site, or a pool, that had no node may do that"
        )
    hours = (moment(rate, "last_hour_utc") - moment(rate, "first_hour_utc")) // HOUR_S + 1
    if hours > FEE_HOURS:
        report.open.append(
            f"why rate {number} goes by fees of blocks up to {heights[-1]} for {hours} hours: a list is of"
            " one hour, and of more where a site, or a pool, had no node"
        )


LATE_S = 2 * 3600  # a price of before may be used for so long: jobs, and shares that come late


def check_terms(statement: Any, proof: Any, number: int, price: Price, rate: Any, report: Report) -> None:
    """That the subsidy is the chain's at that height, and scheme and fee are the tenant's terms."""
    network = text(member(proof, "root"), "network")
    interval = HALVING_INTERVALS.get(network)
    if interval is None:
        report.open.append(f"subsidies: the network is {network!r:.40}")
    elif not price.sold:
        expected = subsidy_sat(natural(rate, "height_from"), interval)
        report.same(f"subsidy of rate {number}", money(rate, "subsidy_sat"), expected)
    if rate.get("upstream") is not None or rate.get("order") is not None:
        report.open.append(f"whether rate {number} is what you agreed to: it is of work for others")
        return
    listed, spans = rows(statement, "terms"), []
    for at, it in enumerate(listed):
        fits = text(it, "scheme") in {price.scheme} | (set(UNPAID) if price.scheme == "pps" else set())
        if fits and natural(it, "fee_bps", 10_000) == price.fee_bps:
            ends = moment(listed[at + 1], "changed_at_utc") if at + 1 < len(listed) else 1 << 62
            spans.append((moment(it, "changed_at_utc"), ends))
    if spans:
        first, last = (moment(rate, it) for it in ("first_hour_utc", "last_hour_utc"))
        if not any(since - LATE_S <= first and last + HOUR_S <= until + LATE_S for since, until in spans):
            report.open.append(
                f"why rate {number} is of work from {utc(first)} to {utc(last + HOUR_S)}, when its terms did"
                " not hold all the time: a site that was cut off goes on by those of before"
            )
        return
    begins = day_number(text(statement, "from_day"), "from_day") * DAY_S
    if moment(rate, "first_hour_utc") <= begins:
        report.open.append(f"scheme and fee of rate {number}: its work began before the period's terms")
    else:
        report.wrong.append(f"rate {number}: {price.scheme} less {price.fee_bps} bps is none of your terms")


def check_signature(value: Any, proof: Any, report: Report, key: Optional[Keys]) -> None:
    if natural(proof, "version") != VERSION:
        raise Unreadable(f"this program knows proofs of version {VERSION}")
    known = {"version", "root", "leaves", "settlements", "block_fees", "signature"}
    if proof.keys() != known:
        report.wrong.append(f"the proof has other members than {sorted(known)}")
    signer = unhex(member(proof, "root"), "key", 32)
    message = signed_message(text(value, "content_sha256"), proof)
    check_signer("statement", signer, message, unhex(proof, "signature", 64), report, key)


def check_signer(
    what: str, signer: bytes, message: bytes, signature: bytes, report: Report, key: Optional[Keys]
) -> None:
    """Who signed it, and whether that is the key that the client knows."""
    report.check(
        signed_by(signer, message, signature),
        f"signed by {signer.hex()}",
        f"the signature is not of this {what} by this key",
    )
    check_whose(f"key of the {what}", signer.hex(), report, key)


ROOT_ROW = {
    *(
        "number",
        "day",
        "root",
        "total_sat",
        "leaves",
        "ledger_seq",
        "ledger_hash",
        "network",
        "genesis",
        "book",
    ),
    *("key", "previous", "hash", "signature"),
}


def check_root(row: Any, report: Report) -> bool:
    """One row of the chain of roots, by itself."""
    check_exact(row, ROOT_ROW, "a root")
    for name, size in (("root", 32), ("ledger_hash", 32), ("genesis", 32), ("book", 32), ("previous", 32)):
        unhex(row, name, size)
    number = natural(row, "number")
    day_number(text(row, "day"), "day")
    total, leaves = money(row, "total_sat"), natural(row, "leaves", 1 << PATH_MAX)
    natural(row, "ledger_seq")
    digest = unhex(row, "hash", 32)
    holds = report.same(f"hash of root {number}", digest.hex(), root_hash(row).hex())
    holds &= bool(leaves) and leaves & (leaves - 1) == 0
    holds &= signed_by(unhex(row, "key", 32), digest, unhex(row, "signature", 64))
    return report.check(
        holds,
        f"root {number}, of the end of {text(row, 'day')}: {total} sat are owed to all, signed",
        f"root {number} is not signed by its key",
    )


def check_leaves(statement: Any, proof: Any, report: Report) -> None:
    """The tenant's part of the tree."""
    root, wrong = member(proof, "root"), len(report.wrong)
    ends = day_number(text(statement, "to_day"), "to_day")
    report.same("day of the root", day_number(text(root, "day"), "day") + 1, ends)
    for name in ("ledger_seq", "ledger_hash"):
        report.same(f"{name} of the root", member(root, name), member(statement, name))
    owed = money(member(statement, "reserve"), "owed_sat")
    report.same("total of the root", money(root, "total_sat"), owed)
    tenant, found, places = text(statement, "tenant").encode(), 0, set()
    levels = max(natural(root, "leaves", 1 << PATH_MAX), 1).bit_length() - 1
    leaves = rows(proof, "leaves", LEAVES_MAX)
    for leaf in leaves:
        place, amount = natural(leaf, "index", 1 << PATH_MAX), money(leaf, "amount_sat")
        path = rows(leaf, "path", PATH_MAX)
        if place in places or place >> levels or len(path) != levels or leaf.keys() != LEAF:
            report.wrong.append(f"leaf {place}: it is there twice, or its path is not to the root")
            continue
        places.add(place)
        found += amount
        data = amount.to_bytes(8, "big") + unhex(leaf, "nonce", 32) + tenant
        digest, total = tagged("angara/leaf", data), amount
        for level, sibling in enumerate(path):
            beside, beside_sat = unhex(sibling, "hash", 32), money(sibling, "sum_sat")
            pair = [(digest, total), (beside, beside_sat)]
            left, right = pair[::-1] if place >> level & 1 else pair
            both = left[0] + left[1].to_bytes(8, "big") + right[0] + right[1].to_bytes(8, "big")
            digest, total = tagged("angara/node", both), total + beside_sat
            if total > MONEY_SAT_MAX:
                report.wrong.append(f"leaf {place}: the sums on its way are more than there is")
        top = (unhex(root, "root", 32).hex(), money(root, "total_sat"))
        report.same(f"root above leaf {place}", top, (digest.hex(), total))
    closing = money(member(statement, "money"), "closing_sat")
    report.same("balance in the root's total", found, closing)
    if len(report.wrong) == wrong:
        report.good.append(f"the balance of {closing} sat is {len(leaves)} leaves of that root")


LEAF = {"index", "amount_sat", "nonce", "path"}


def check_previous(value: Any, previous: Any, report: Report) -> None:
    """That a statement goes on from another."""
    now, then, wrong = member(value, "statement"), member(previous, "statement"), len(report.wrong)
    for what, here, before in (
        ("tenant", text(now, "tenant"), text(then, "tenant")),
        ("first day", text(now, "from_day"), text(then, "to_day")),
        (
            "opening balance",
            money(member(now, "money"), "opening_sat"),
            money(member(then, "money"), "closing_sat"),
        ),
        (
            "carry",
            natural(member(now, "money"), "carry_in_psat"),
            natural(member(then, "money"), "carry_out_psat"),
        ),
    ):
        report.same(f"{what}, against the statement before", here, before)
    divided = [[] if it.get("divided") is None else rows(it["divided"], "blocks") for it in (now, then)]
    if all(divided):
        carried = [natural(divided[0][0], "carry_in_psat"), natural(divided[1][-1], "carry_out_psat")]
        report.same("what blocks carried, against the statement before", *carried)
    check_energy_goes_on(now.get("energy"), then.get("energy"), report)
    check_terms_go_on(now, then, report)
    later = natural(then, "ledger_seq") <= natural(now, "ledger_seq")
    report.check(later, "", "the ledger was longer at the end of the statement before")
    proofs: List[Any] = [it.get("proof") for it in (value, previous)]
    if None not in proofs:
        root, old = (member(it, "root") for it in proofs)
        for name in ("network", "genesis", "book"):
            report.same(f"{name} of the root, against the statement before", root[name], old[name])
        check_credited(then, now, proofs, report)
        number, earlier = natural(root, "number"), natural(old, "number")
        report.check(earlier < number, "", "its root is not later than that of the statement before")
        if number == earlier + 1 and root["key"] == old["key"]:
            report.same("what is before the root", text(root, "previous"), text(old, "hash"))
        else:
            report.open.append(f"the chain from root {earlier} to root {number}: give --roots")
    if len(report.wrong) == wrong:
        report.good.append("it goes on from the statement before it, balance and carry")


def check_energy_goes_on(now: Any, then: Any, report: Report) -> None:
    """What is due for energy: of a period of which nothing is told nothing was due, before or after it."""
    before = 0 if then is None else whole(then, "due_after_sat")
    here = 0 if now is None else whole(now, "due_before_sat")
    report.same("energy that was due, against the statement before", here, before)
    if now is not None and then is not None:
        carried = [whole(now, "carry_in_psat"), whole(then, "carry_out_psat")]
        report.same("what energy carried, against the statement before", *carried)


def check_terms_go_on(now: Any, then: Any, report: Report) -> None:
    """The terms that a period begins with are those that the one before it ended with."""
    begins = day_number(text(now, "from_day"), "from_day") * DAY_S
    first = [it for it in rows(now, "terms") if moment(it, "changed_at_utc") < begins]
    report.same("terms at its beginning, against the statement before", first, rows(then, "terms")[-1:])


def check_credited(then: Any, now: Any, proofs: List[Any], report: Report) -> None:
    """That what was counted in the period before is credited by the end of this one. A pool settles hour by
    hour, the oldest first; whose books stood still since has settled none of this period."""
    shares, done = uncredited(then, proofs)
    begins = day_number(text(now, "from_day"), "from_day") * DAY_S
    goes_on = any(moment(it, "hour_utc") > begins for it in rows(proofs[0], "settlements"))
    if shares <= 0 and done <= 0:
        report.good.append("all accepted shares of the period before are credited there or here")
    elif goes_on:
        report.wrong.append(
            f"{shares} accepted shares of the period before, {part_of_work(done, then)}, are credited neither"
            " there nor here"
        )
    else:
        report.open.append(f"where {shares} accepted shares of the period before are credited")


# Shares

CLOSING = {
    *("number", "first_settlement", "last_settlement", "root", "ledger_seq", "ledger_hash", "network"),
    *("genesis", "book", "key", "previous", "hash", "signature"),
}
SETTLED = {
    *("settlement", "tenant", "rate", "order", "forwarded", "hour_utc", "part", "shares", "credit_psat"),
    *("posted_sat", "from_log2", "kept", "root", "nonce"),
}
SHARE = {"header", "worker", "difficulty_log2", "minute_utc"}
LOG2_MIN, LOG2_MAX = -32, 63  # of difficulties
OLD_S = 2 * 3600  # a share's own time may be so far before it was counted, and its miner's clock as far ahead
SHARES_SIGMAS = 6  # that chance is away from what is to be expected: once in a thousand million hours
FEW = 20  # beside that, where little is to be expected


def exponent(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not LOG2_MIN <= value <= LOG2_MAX:
        raise Unreadable(f"{what} is no exponent of a difficulty")
    return value


def by_difficulty(of: Any, name: str) -> Dict[int, int]:
    """Shares by the exponent of their difficulty."""
    found = {}
    for log2 in table(member(of, name), name):
        if not re.fullmatch(r"0|-?[1-9]\d?", log2, re.ASCII):
            raise Unreadable(f"2^{log2!r:.20} is no difficulty")
        found[exponent(int(log2), name)] = natural(of[name], log2)
    return found


def check_closing(row: Any, report: Report, signed: bool = True) -> None:
    """One row of the chain of closings, by itself."""
    check_exact(row, CLOSING, "a closing")
    for name in ("root", "ledger_hash", "genesis", "book", "key", "previous"):
        unhex(row, name, 32)
    number, first = natural(row, "number"), natural(row, "first_settlement")
    natural(row, "ledger_seq")
    text(row, "network")
    if natural(row, "last_settlement") < first:
        raise Unreadable(f"closing {number} ends before it begins")
    digest = closing_hash(row)
    holds = report.same(f"hash of closing {number}", unhex(row, "hash", 32).hex(), digest.hex())
    signature = unhex(row, "signature", 64)
    if signed and holds:
        report.check(
            signed_by(unhex(row, "key", 32), digest, signature),
            f"closing {number}, of settlements {first} to {row['last_settlement']}, signed",
            f"closing {number} is not signed by its key",
        )


class Work:
    """Of the settlements of an hour: what was credited, and what proves it."""

    def __init__(self) -> None:
        self.kept = 0
        self.expected = Fraction(0)

    def add(self, kept: Dict[int, int], shares: Dict[int, int], from_log2: int) -> None:
        self.kept += sum(kept.values())
        for log2, count in shares.items():
            self.expected += count / Fraction(2) ** max(0, from_log2 - log2)

    @property
    def is_more(self) -> bool:
        """Than chance gives: shares are missing in what was credited."""
        beyond = self.kept - self.expected - FEW
        return beyond > 0 and beyond**2 > SHARES_SIGMAS**2 * self.expected

    @property
    def is_less(self) -> bool:
        beyond = self.expected - self.kept - FEW
        return beyond > 0 and beyond**2 > SHARES_SIGMAS**2 * self.expected


def check_hour(value: Any, report: Report, key: Optional[Keys]) -> None:
    """A tenant's shares of an hour, all of them or one."""
    check_exact(value, ("version", "tenant", "hour_utc", "whole", "closings", "settlements"), "the file")
    if natural(value, "version") != VERSION:
        raise Unreadable(f"this program knows proofs of version {VERSION}")
    whole_hour = yes_or_no(value, "whole")
    closings = {}
    for row in rows(value, "closings", SETTLEMENTS_MAX):
        check_closing(row, report)
        closings[natural(row, "number")] = row
    for signer in sorted({row["key"] for row in closings.values()}):
        check_whose("key of a closing", signer, report, key)
    numbers = [natural(row, "number") for row in value["closings"]]
    entries = rows(value, "settlements", SETTLEMENTS_MAX)
    used = [natural(it, "closing") for it in entries]
    if numbers != sorted(set(numbers)) or set(numbers) != set(used):
        raise Unreadable("its closings are not those of its settlements")
    if len({(row["network"], row["genesis"], row["book"]) for row in closings.values()}) != 1:
        report.wrong.append("its closings are of several books, or there is none")
    seen: Dict[bytes, int] = {}
    own, sent, old = Work(), Work(), [0]
    before = 0
    for entry in entries:
        check_exact(entry, ("closing", "path", "settlement", "shares"), "a settlement of the file")
        number = check_settled(value, entry, closings[entry["closing"]], report)
        if number <= before:
            report.wrong.append(f"settlement {number} is not after the one before it")
        before = number
        of = entry["settlement"]
        kept = check_kept(entry, whole_hour, seen, old, report)
        work = sent if of["forwarded"] else own
        work.add(kept, by_difficulty(of, "shares"), of["from_log2"])
    if not whole_hour and len(seen) != 1:
        report.wrong.append(f"there are {len(seen)} shares where one was asked for")
    if not report.wrong:
        tell_hour(value, whole_hour, len(seen), report)
    if whole_hour:
        compare_work(own, sent, report)
    if old[0]:
        report.open.append(
            f"why {old[0]} shares were counted two hours or more after they were found: a site that was away,"
            " or work that was shown before"
        )


def check_settled(value: Any, entry: Any, closing: Any, report: Report) -> int:
    """What a settlement says, and its way to the root of its closing; its number."""
    of = member(entry, "settlement")
    check_exact(of, SETTLED, "a settlement")
    number = natural(of, "settlement")
    for name in ("tenant", "hour_utc"):
        report.same(f"{name} of settlement {number}", text(of, name), text(value, name))
    for name in ("rate", "part", "posted_sat"):
        natural(of, name)
    natural(of, "credit_psat", 1 << 96)
    unhex(of, "nonce", 32)
    yes_or_no(of, "forwarded")
    exponent(member(of, "from_log2"), "from_log2")
    if of["order"] is not None:
        text(of, "order")
    first, last = closing["first_settlement"], closing["last_settlement"]
    path = hashes(entry, "path")
    if not first <= number <= last or len(path) != (last - first).bit_length():
        report.wrong.append(
            f"settlement {number} is none of closing {closing['number']}, or its way is another"
        )
    else:
        root = climbed(settled_leaf(of), number - first, path)
        report.same(f"root above settlement {number}", closing["root"], root.hex())
    return number


def check_kept(
    entry: Any, whole_hour: bool, seen: Dict[bytes, int], old: List[int], report: Report
) -> Dict[int, int]:
    """The shares of a settlement, against its root; how many it says that there are."""
    of = entry["settlement"]
    number, kept = of["settlement"], by_difficulty(of, "kept")
    size, root = sum(kept.values()), unhex(of, "root", 32)
    shares = rows(entry, "shares")
    leaves, found, last = [], dict.fromkeys(kept, 0), b""
    for at, share in enumerate(shares):
        check_exact(share, SHARE if whole_hour else SHARE | {"index", "path"}, "a share")
        leaf, header_hash, log2 = check_share(of, share, old, report)
        found[log2] = found.get(log2, 0) + 1
        if header_hash in seen or header_hash <= last:
            report.wrong.append(f"share {header_hash[::-1].hex()} is there twice, or not in its place")
        seen[header_hash], last = number, header_hash
        leaves.append(leaf)
        if not whole_hour:
            index, path = natural(share, "index"), hashes(share, "path")
            if index >= size or len(path) != (size - 1).bit_length():
                report.wrong.append(f"the way of share {at} is not to the root of settlement {number}")
            else:
                above = climbed(leaf, index, path)
                report.same(f"root above the share in settlement {number}", root.hex(), above.hex())
    if whole_hour:
        report.same(f"shares of settlement {number}, by difficulty", kept, found)
        report.same(f"root of the shares of settlement {number}", root.hex(), root_of(leaves).hex())
    return kept


def root_of(level: List[bytes]) -> bytes:
    while len(level) > 1:
        level = level + [NOTHING] * (len(level) % 2)
        level = [pair(level[at], level[at + 1]) for at in range(0, len(level), 2)]
    return level[0] if level else NOTHING


def check_share(of: Any, share: Any, old: List[int], report: Report) -> Tuple[bytes, bytes, int]:
    """That it is the work that it says, in its hour; its leaf, its hash, its difficulty."""
    header, worker = unhex(share, "header", 80), text(share, "worker")
    log2, at_s = exponent(member(share, "difficulty_log2"), "difficulty_log2"), moment(share, "minute_utc")
    if at_s < 0:
        raise Unreadable("a share is of before 1970")
    header_hash = sha256d(header)
    name = header_hash[::-1].hex()
    needed = max(log2, of["from_log2"])
    report.check(reaches(header_hash, needed), "", f"share {name} is not of difficulty 2^{needed}")
    hour_s = moment(of, "hour_utc")
    report.check(
        hour_s <= at_s < hour_s + 3600 and at_s % 60 == 0, "", f"share {name} is not of its settlement's hour"
    )
    report.check(
        worker.startswith(f"{of['tenant']}."),
        "",
        f"share {name} is of a machine of somebody else, {worker!r:.80}",
    )
    found_s = int.from_bytes(header[68:72], "little")
    report.check(found_s <= at_s + 60 + OLD_S, "", f"share {name} was counted before it was found")
    old[0] += found_s < at_s - OLD_S
    try:
        return share_leaf(header, log2, at_s // 60, worker), header_hash, log2
    except UnicodeEncodeError:
        raise Unreadable("a worker has a name that is no text") from None


def tell_hour(value: Any, whole_hour: bool, shares: int, report: Report) -> None:
    if whole_hour:
        report.good.append(
            f"{value['tenant']}, {value['hour_utc']}: {shares} shares of {len(value['settlements'])}"
            " settlements are all that their roots have, each of them once, and each is the work that it says"
        )
    else:
        share = value["settlements"][0]["shares"][0]
        report.good.append(
            f"the share was credited to {share['worker']} as difficulty 2^{share['difficulty_log2']} in the"
            f" minute of {share['minute_utc']}"
        )


def compare_work(own: Work, sent: Work, report: Report) -> None:
    """As many hard shares as the credited work gives by chance."""
    words = f"{own.kept} shares where {round(own.expected)} are to be expected of what was credited"
    report.check(not own.is_more, words, f"{words}: shares were left out of it")
    if own.is_less:
        report.open.append(f"why so few shares prove it: {words}")
    if sent.kept or sent.expected:
        report.open.append(
            f"which shares an upstream rejected: {sent.kept} were found on work of upstreams, where"
            f" {round(sent.expected)} are to be expected of what was credited"
        )
    report.open.append(
        "whether these are all the shares that your machines sent: each that a machine's own log has, of that"
        " difficulty or more, is to be here"
    )


def check_against(value: Any, other: Any, report: Report) -> None:
    """That a statement has the settlements that these shares are of, and no others of that hour."""
    statement, wrong = member(other, "statement"), len(report.wrong)
    report.same("tenant of the statement", text(statement, "tenant"), text(value, "tenant"))
    figures = ("rate", "hour_utc", "part", "shares", "credit_psat", "posted_sat")
    stated = {
        (it["rate"], it["part"]): {name: member(it, name) for name in figures}
        for it in rows(member(other, "proof"), "settlements")
        if member(it, "hour_utc") == value["hour_utc"]
    }
    shown = {
        (of["rate"], of["part"]): {name: of[name] for name in figures}
        for of in (it["settlement"] for it in value["settlements"])
    }
    for what, it in stated.items():
        if what in shown:
            report.same(f"settlement of rate {what[0]}, part {what[1]}, in the statement", it, shown[what])
        elif value["whole"]:
            report.wrong.append(f"settlement of rate {what[0]}, part {what[1]}, is in the statement alone")
    for rate, part in shown.keys() - stated.keys():
        report.open.append(f"in which statement the settlement of rate {rate}, part {part}, is")
    if len(report.wrong) == wrong:
        report.good.append("what the statement has of that hour is here too, to the psat")


def tell_what_is_open(statement: Any, report: Report) -> None:
    report.open += [
        "whether these are all the shares that your machines sent: compare with their own counts",
        "nBits and heights, and what each block that is listed paid in fees: a node knows",
        "whether a payout is in the chain: look its transaction up",
        "uptime of machines, and reasons of rejects",
        "the figures of ruin",
    ]
    if statement.get("energy") is not None:
        report.open.append("meter readings, tariffs, exchange rates and carbon behind the energy")
    if statement.get("blocks"):
        report.open.append("what blocks paid you yourself: look their coinbases up")


# Receipts of an order: a list of them, one after the other

RECEIPT = {
    *("version", "number", "book", "order", "buyer", "upstream", "terms", "hour_utc", "part", "seconds"),
    *(
        "sold",
        "delivered",
        "undelivered",
        "targets",
        "work",
        "work_before",
        "bill_psat",
        "billed_before_psat",
    ),
    *("key", "previous", "hash", "signature"),
}
TERMS = {"hashrate_ths", "sat_per_ph_day", "from_utc", "until_utc"}
MAKING_GOOD = {"make_good", "tolerances"}
MADE_GOOD = {
    *("away_s", "refused", "billed", "short", "surplus", "granted", "billed_before", "granted_before"),
    *("carried_before", "carried", "due_psat"),
}
EXTENDED = ("extended", "forgone")  # of what was made good: delivered after all, and not taken
CARRIED = ("billed", "short", "granted")
SAID = {"target", "accepted", "rejected", "unanswered"}
WORK_PER_HASH = 65_535  # so that a share of difficulty 2^k is 2^(48+k), and every sum is whole
HOUR_S = 3_600


def work(of: Any, name: str) -> int:
    """A whole number that is written as text, for it may be larger than some programs read."""
    return int(text(of, name, "[0-9]{1,60}"))


def counts(of: Any, name: str, form: str) -> Dict[str, int]:
    """Numbers of shares by what they are of."""
    found = table(member(of, name), name)
    for it in found:
        if not re.fullmatch(form, it, re.ASCII) or not natural(found, it):
            raise Unreadable(f"{name!r} has {it!r:.80}")
    return found


def price_psat(done: int, terms: Any) -> int:
    """What work costs by an order's price of a PH-day, rounded down to 10^-12 satoshi."""
    return done * money(terms, "sat_per_ph_day") * PSAT // (WORK_PER_HASH * 10**15 * DAY_S)


def share_work(said: Any) -> Fraction:
    """What a share stands for that meets a target of the upstream."""
    number = int(text(said, "target", "[0-9a-f]{64}"), 16)
    if not number:
        raise Unreadable("a target is zero")
    return Fraction(WORK_PER_HASH << 256, number)


def sent(said: Any) -> int:
    """Shares of a target, whatever became of them."""
    rejected = sum(counts(said, "rejected", "[a-z_]{1,40}").values())
    return natural(said, "accepted") + rejected + natural(said, "unanswered")


def sold_until(row: Any) -> int:
    """When the order was over, as far as this receipt knows."""
    until = moment(member(row, "terms"), "until_utc")
    return min(until, moment(row, "ended_utc")) if "ended_utc" in row else until


def extended_until(row: Any) -> int:
    """Until when it may deliver what it owes as work, as far as this receipt knows."""
    hours = natural(row["terms"], "extension_h", 10_000) if "extension_h" in row["terms"] else 0
    return sold_until(row) + (0 if "ended_utc" in row else hours * HOUR_S)


def extension_seconds(row: Any) -> int:
    """Of its hour, which begins after the order's end."""
    begins = moment(row, "hour_utc")
    if natural(row, "part") or begins < moment(row["terms"], "until_utc"):
        return 0
    return max(min(begins + HOUR_S, extended_until(row)) - begins, 0)


def sold_seconds(row: Any) -> int:
    """Of its hour."""
    begins = moment(row, "hour_utc")
    sold_from = max(begins, moment(member(row, "terms"), "from_utc"))
    return max(min(begins + HOUR_S, sold_until(row)) - sold_from, 0)


def check_receipt(row: Any, report: Report) -> None:
    """One receipt, by itself."""
    known = RECEIPT | {it for it in ("ended_utc", "made_good") if it in table(row, "a receipt")}
    agreed = TERMS | (MAKING_GOOD if "made_good" in row else set())
    if table(member(row, "terms"), "terms").get("make_good") == "extension":
        agreed |= {"extension_h"}
    if row.keys() != known or row["terms"].keys() != agreed:
        raise Unreadable("a receipt has other members than it should")
    if natural(row, "version") != RECEIPT_VERSION:
        raise Unreadable(f"this program knows receipts of version {RECEIPT_VERSION}")
    number, part = natural(row, "number"), natural(row, "part")
    what, terms = f"of receipt {number}", member(row, "terms")
    unhex(row, "book", 32)
    unhex(row, "previous", 32)
    for name in ("order", "buyer", "upstream"):
        text(row, name)
    if moment(row, "hour_utc") % HOUR_S:
        raise Unreadable("'hour_utc' is no whole hour")
    seconds = natural(row, "seconds", HOUR_S)
    report.same(f"seconds {what}", seconds, 0 if part else sold_seconds(row))
    report.same(
        f"work sold {what}",
        work(row, "sold"),
        natural(terms, "hashrate_ths") * 10**12 * seconds * WORK_PER_HASH,
    )
    exponent = r"-?\d{1,3}"
    delivered, before = Fraction(0), work(row, "work_before")
    for log2, shares in counts(row, "delivered", exponent).items():
        delivered += shares * Fraction(2) ** (48 + int(log2))
    counts(row, "undelivered", exponent)
    report.same(f"work delivered {what}", work(row, "work"), delivered)
    owed_before, owed = before, before + work(row, "work")
    if "made_good" in row:
        owed_before, owed = check_made_good(row, what, report)
    billed = price_psat(owed_before, terms)
    report.same(f"what was billed before, {what}", natural(row, "billed_before_psat", 1 << 100), billed)
    bill = price_psat(owed, terms) - billed
    report.same(f"bill {what}, in psat", whole(row, "bill_psat", 1 << 100), bill)
    targets = [text(it, "target", "[0-9a-f]{64}") for it in rows(row, "targets", TARGETS_MAX)]
    report.same(f"targets {what}, in their order", targets, sorted(set(targets)))
    for said in row["targets"]:
        check_exact(said, SAID, "a target")
        share_work(said)
        sent(said)
    check_receipt_signature(row, report)


def check_made_good(row: Any, what: str, report: Report) -> Tuple[int, int]:
    """What is billed of an hour, what is missing in it, and what is made good; the work that is owed for,
    before it and with it.

    Billed is what was sold, but for the time in which the buyer's upstream was away, and what it refused as
    far as anything is missing. Of each tolerance there are periods of so many hours from the order's first
    on; at the end of one, what is short in it and was not made good is, beyond the tolerance of what was
    billed. A surplus makes up for what was short before. By an extension, what was made good is owed as work:
    what comes of it after the order's end is billed, and what is not taken then is owed no more."""
    good, terms = row["made_good"], row["terms"]
    way = text(terms, "make_good", "credit|refund|extension")
    steps = rows(terms, "tolerances", 4)
    carried, after = (carried_of(good, name, len(steps)) for name in ("carried_before", "carried"))
    extends = {f"{it}{when}" for it in EXTENDED for when in ("", "_before") if way == "extension"}
    if table(good, "made_good").keys() != MADE_GOOD | extends or not steps:
        raise Unreadable("what is made good has other members than it should")
    if any(table(it, "a tolerance").keys() != {"bps", "hours"} or not natural(it, "hours") for it in steps):
        raise Unreadable("a tolerance has other members than it should")
    sold = natural(row, "seconds")
    away = natural(good, "away_s", sold or extension_seconds(row))
    second = natural(terms, "hashrate_ths") * 10**12 * WORK_PER_HASH
    expected, delivered = work(row, "sold") - away * second if sold else 0, work(row, "work")
    refused = refused_work(row)
    missing = max(expected - delivered, 0)
    excused = min(refused, missing)
    short, surplus = missing - excused, max(delivered - expected, 0)
    begins, ends = moment(row, "hour_utc"), sold_until(row)
    hours = begins // HOUR_S + 1 - moment(terms, "from_utc") // HOUR_S
    counts_as_one = sold > 0
    granted = extended = forgone = 0
    done, given = work(good, "billed_before"), work(good, "granted_before")
    if way == "extension" and ends - HOUR_S < begins < extended_until(row):
        owed = given - work(good, "extended_before") - work(good, "forgone_before")
        unsettled = max(0, *(one["short"] - one["granted"] for one in carried))
        extended = min(owed, max(surplus - unsettled, 0))
        if begins >= ends:
            forgone = min(owed - extended, refused + (0 if sold else away * second))
    for one in carried:
        one["billed"] += expected - excused
        one["short"] = max(one["short"] + short - (surplus - extended), 0)
    over = []
    for at, step in enumerate(steps):
        one = carried[at]
        over.append(counts_as_one and (begins + HOUR_S >= ends or hours % step["hours"] == 0))
        more = one["short"] - one["granted"] - one["billed"] * natural(step, "bps", 10_000) // 10_000
        if over[-1] and more > 0:
            granted += more
            for other in carried:
                other["granted"] += more
    found = [dict.fromkeys(CARRIED, 0) if it else carried[at] for at, it in enumerate(over)]
    for name, value in (
        ("refused", refused),
        ("billed", expected - excused),
        ("short", short),
        ("surplus", surplus),
        ("granted", granted),
        *((("extended", extended), ("forgone", forgone)) if extends else ()),
    ):
        report.same(f"work {name} {what}", work(good, name), value)
    report.same(f"what is carried on {what}", after, found)
    due = price_psat(given + granted, terms) - price_psat(given, terms) if way == "refund" else 0
    report.same(f"what is due {what}, in psat", natural(good, "due_psat", 1 << 100), due)
    billed = done + expected - excused
    if way == "refund":
        return done, billed
    delivered_after = work(good, "extended_before") if extends else 0
    done, billed = done - given + delivered_after, billed - given - granted + delivered_after + extended
    return done, billed


def carried_of(good: Any, name: str, steps: int) -> List[Dict[str, int]]:
    found = rows(good, name, 4)
    if len(found) != steps or any(table(it, name).keys() != {*CARRIED} for it in found):
        raise Unreadable(f"{name!r} is not of its form")
    return [{it: work(one, it) for it in CARRIED} for one in found]


def refused_work(row: Any) -> int:
    """Of shares that the upstream was sent and did not take: each is as difficult as others of the hour, or
    as the upstream asks where that is less, or there are no others."""
    shares, refused = sum(row["delivered"].values()), Fraction(0)
    for said in rows(row, "targets"):
        each = share_work(said)
        if shares:
            each = min(each, Fraction(work(row, "work"), shares))
        refused += each * (sent(said) - natural(said, "accepted"))
    return int(refused)


def check_receipt_signature(row: Any, report: Report) -> None:
    number, digest = natural(row, "number"), unhex(row, "hash", 32)
    report.same(f"hash of receipt {number}", digest.hex(), receipt_hash(row).hex())
    if text(row, "key"):
        holds = signed_by(unhex(row, "key", 32), digest, unhex(row, "signature", 64))
        report.check(holds, "", f"receipt {number} is not signed by its key")
    else:
        report.same(f"signature of receipt {number}, which has no key", text(row, "signature"), "")


def check_receipts(chain: List[Any], report: Report, key: Optional[Keys]) -> None:
    """Receipts one after the other: none is missing or there twice, each goes on from the one before."""
    if not 0 < len(chain) <= RECEIPTS_MAX:
        raise Unreadable(f"the receipts are no list of 1 to {RECEIPTS_MAX}")
    wrong = len(report.wrong)
    for row in chain:
        check_receipt(row, report)
    first, last = chain[0], chain[-1]
    if natural(first, "number") == 1:
        report.same("what is before receipt 1", text(first, "previous"), "0" * 64)
        report.same("work before receipt 1", work(first, "work_before"), 0)
        if "made_good" in first:
            good = first["made_good"]
            nothing = [work(good, "billed_before"), work(good, "granted_before"), good["carried_before"]]
            zeros = [dict.fromkeys(CARRIED, "0") for _ in first["terms"]["tolerances"]]
            report.same("what is carried into receipt 1", nothing, [0, 0, zeros])
            worked_off = [work(good, f"{it}_before") for it in EXTENDED if it in good]
            report.same("what was worked off before receipt 1", sum(worked_off), 0)
        begins = moment(member(first, "terms"), "from_utc") // HOUR_S * HOUR_S
        report.same("hour of receipt 1", moment(first, "hour_utc"), begins)
    else:
        report.open.append(f"receipts before {natural(first, 'number')}: the file begins there")
    check_follow(chain, report)
    if key is not None:
        check_receipt_keys(chain, report, key)
    elif text(last, "key"):
        report.open.append(f"whose key {text(last, 'key')} is: give the one you know with --key")
    unsigned = sum(not text(it, "key") for it in chain)
    if unsigned:
        report.open.append(f"who made {unsigned} of the receipts, and whether they were changed: not signed")
    if len(report.wrong) == wrong:
        bill = whole(last, "billed_before_psat", 1 << 100) + whole(last, "bill_psat", 1 << 100)
        report.good.append(
            f"{len(chain)} receipts of order {text(last, 'order')!r} are one chain, from"
            f" {text(first, 'hour_utc')} to {text(last, 'hour_utc')}: each follows from its counts, and what"
            f" is owed by then is {in_sat(bill)} sat"
        )
        if "made_good" in last:
            tell_made_good(chain, report)


def check_run(chain: List[Any], report: Report) -> None:
    """Receipts that were given before, and the one behind them."""
    for row in chain:
        check_receipt(row, report)
    check_follow(chain, report)


def check_follow(chain: List[Any], report: Report) -> None:
    for at in range(1, len(chain)):
        check_next(chain[at - 1], chain[at], report)
    check_hours(chain, report)


def check_receipt_keys(chain: List[Any], report: Report, key: Keys) -> None:
    """Each is signed by a key that follows from the known one, in its time."""
    if not text(chain[-1], "key"):
        report.wrong.append("the newest receipt is not signed, and a key is given that should have signed it")
    for signer in dict.fromkeys(text(it, "key") for it in chain):
        if signer:
            key.check("key of receipts", signer, report)
    former: Dict[str, bool] = {}  # who has stolen a key that was replaced would sign hours of before
    before = ""
    for row in chain:
        signer, number = text(row, "key"), natural(row, "number")
        if moment(row, "hour_utc") >= key.replaced.get(signer, 1 << 62):
            report.wrong.append(f"receipt {number} is of an hour in which its key was replaced already")
        if signer and signer != before:
            former[before] = True
            before = signer
        if signer and signer in former:
            report.wrong.append(f"receipt {number} is signed by a key that another one follows in this list")


def tell_made_good(chain: List[Any], report: Report) -> None:
    terms = chain[-1]["terms"]
    granted = sum(work(it["made_good"], "granted") for it in chain)
    away = sum(natural(it["made_good"], "away_s") for it in chain)
    report.good.append(
        f"work that was missing beyond the tolerance is made good by {text(terms, 'make_good')}:"
        f" {in_sat(price_psat(granted, terms))} sat of it here"
    )
    if "extended" in chain[-1]["made_good"]:
        extended, forgone = (sum(work(it["made_good"], name) for it in chain) for name in EXTENDED)
        report.good.append(
            f"of that {in_sat(price_psat(extended, terms))} sat were delivered after the order's end, and are"
            f" billed; {in_sat(price_psat(forgone, terms))} sat were offered, and not taken"
        )
    report.open.append(f"whether your upstream was away for {away} s, which are neither billed nor made good")
    report.open.append("whether your upstream was right to refuse what it refused: that is not billed either")


def check_next(before: Any, row: Any, report: Report) -> None:
    number = natural(row, "number")
    report.same("number of a receipt", number, natural(before, "number") + 1)
    report.same(f"what is before receipt {number}", text(row, "previous"), text(before, "hash"))
    done = work(before, "work_before") + work(before, "work")
    report.same(f"work before receipt {number}", work(row, "work_before"), done)
    if "made_good" in row and "made_good" in before:
        good, then = row["made_good"], before["made_good"]
        for name in ("billed", "granted", *(it for it in EXTENDED if it in good and it in then)):
            total = work(then, f"{name}_before") + work(then, name)
            report.same(f"work {name} before receipt {number}", work(good, f"{name}_before"), total)
        report.same(f"what receipt {number} carries in", good["carried_before"], then["carried"])
    same = ("version", "book", "order", "buyer", "upstream", "terms")
    report.check(
        all(row[it] == before[it] for it in same), "", f"receipt {number} is not of the same order and terms"
    )
    if row["key"] != before["key"]:
        report.open.append(f"why the key is another from receipt {number} on")


def check_hours(chain: List[Any], report: Report) -> None:
    """Every hour has one receipt, and then the parts that came later."""
    parts: Dict[int, int] = {}
    following: Optional[int] = None
    whole_chain = natural(chain[0], "number") == 1
    for row in chain:
        hour, part, number = moment(row, "hour_utc"), natural(row, "part"), natural(row, "number")
        if hour in parts or part == 0 or whole_chain:
            report.same(f"part of its hour that receipt {number} is", part, parts.get(hour, -1) + 1)
        parts[hour] = part
        if part == 0 and hour < sold_until(row):
            if following is not None:
                report.same(f"hour of receipt {number}", utc(hour), utc(following))
            following = hour + HOUR_S


def check_chance(chain: List[Any], report: Report) -> None:
    """What is billed against what was sent. Only shares that meet the upstream's target can be counted by
    both; they stand for all others by chance, which is so far off once in three million orders."""
    billed = stands_for = squares = 0
    for row in chain:
        billed += work(row, "work")
        for said in row["targets"]:
            each, shares = int(share_work(said)), sent(said)
            stands_for += each * shares
            squares += each**2 * shares
    excess = billed - stands_for
    terms = chain[-1]["terms"]
    if not stands_for:
        report.open.append("what the work that is billed stands for: no share was sent in these hours")
    elif excess > 0 and excess**2 * stands_for > SIGMAS**2 * squares * max(billed, stands_for):
        report.wrong.append(
            f"more work is billed than the shares stand for that were sent: worth"
            f" {in_sat(price_psat(excess, terms))} sat, which is no chance"
        )
    elif billed:
        far = abs(excess) * 1_000_000 // billed
        report.good.append(
            f"the work that is billed is within {far // 10_000}.{far % 10_000:04} % of what the shares that"
            " were sent stand for, which may be chance"
        )


# What the buyer's own pool counted


def read_counted(path: str) -> Dict[Tuple[str, int], Tuple[int, Optional[int]]]:
    """By target and hour: accepted shares, and rejected ones where there is a column of them."""
    try:
        lines = read(path).decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise Unreadable("the counts are no ASCII") from None
    heads = ["hour,target,accepted", "hour,target,accepted,rejected"]
    if not lines or lines[0] not in heads or len(lines) > VALUES_MAX:
        raise Unreadable(f"the counts begin with {heads[0]!r} or {heads[1]!r}")
    found: Dict[Tuple[str, int], Tuple[int, Optional[int]]] = {}
    form = r"([^,]+),([0-9a-f]{64}),(\d{1,18})" + (r",(\d{1,18})" if lines[0] == heads[1] else "()")
    for number, line in enumerate(lines[1:], 2):
        values = re.fullmatch(form, line, re.ASCII)
        if values is None:
            raise Unreadable(f"line {number} of the counts is not of its form")
        hour = moment({"hour": values[1]}, "hour")
        if hour % HOUR_S or (values[2], hour) in found:
            raise Unreadable(f"line {number} of the counts is of no whole hour, or there twice")
        found[values[2], hour] = int(values[3]), int(values[4]) if values[4] else None
    return found


class Tally:
    """Shares of one target: by hour, what receipts say and what the buyer counted."""

    def __init__(self, target: str) -> None:
        self.share = share_work({"target": target})
        self.hours: Dict[int, List[int]] = {}  # accepted, unanswered, rejected, counted, counted as rejected

    def of(self, hour: int) -> List[int]:
        return self.hours.setdefault(hour, [0, 0, 0, 0, 0])


def check_counted(
    chain: List[Any], counted: Dict[Tuple[str, int], Tuple[int, Optional[int]]], report: Report
) -> None:
    """Every accepted share of the receipts is one that the buyer's pool counted, and every one that it
    counted is in them: by target, over all hours to the share. Between two hours a minute's shares may be on
    their way; one that was never answered may have been counted."""
    tallies: Dict[str, Tally] = {}
    for row in chain:
        for said in row["targets"]:
            of = tallies.setdefault(said["target"], Tally(said["target"])).of(moment(row, "hour_utc"))
            of[0] += said["accepted"]
            of[1] += said["unanswered"]
            of[2] += sent(said) - said["accepted"] - said["unanswered"]
    rejects = False
    for (target, hour), (accepted, rejected) in counted.items():
        of = tallies.setdefault(target, Tally(target)).of(hour)
        of[3] += accepted
        of[4] += rejected or 0
        rejects |= rejected is not None
    wrong, agreed = len(report.wrong), 0
    for target, tally in sorted(tallies.items()):
        agreed += check_tally(chain, target, tally, rejects, report)
    if not rejects:
        report.open.append("rejected shares: give a column of them beside the accepted ones")
    if len(report.wrong) == wrong:
        report.good.append(f"{agreed} accepted shares are those that your pool counted")


def check_tally(chain: List[Any], target: str, tally: Tally, rejects: bool, report: Report) -> int:
    """Of one target; how many both have."""
    terms, told = chain[-1]["terms"], {moment(it, "hour_utc") for it in chain}
    over = sold_until(chain[-1]) <= max(told) + HOUR_S
    begins = 0 if natural(chain[0], "number") == 1 else 1
    slack = claimed = doubt = refused = 0
    worst, worst_hour, kept = 0, 0, 0
    for hour in sorted(tally.hours):
        accepted, unanswered, rejected, mine, mine_rejected = tally.hours[hour]
        if hour not in told and (hour > max(told) or begins):
            report.open.append(
                f"{mine} shares that you counted at {utc(hour)}: no receipt here is of that hour"
            )
            continue
        minute = -(-max(accepted, mine) // 60)
        slack = minute if not begins else max(slack, minute)
        claimed += accepted - mine
        doubt += unanswered
        refused += rejected - mine_rejected
        kept += min(accepted, mine)
        if claimed - slack > worst:
            worst, worst_hour = claimed - slack, hour
    if over and not begins:
        slack = 0
    short = f"target {target[:24]}...: "
    if claimed > slack:
        lost = in_sat(price_psat(int(tally.share * claimed), terms))
        report.wrong.append(
            f"{short}the receipts have {claimed} accepted shares more than you counted, worth {lost} sat"
        )
    elif worst:
        report.wrong.append(
            f"{short}by the end of {utc(worst_hour)} the receipts had {worst} accepted shares more than you"
            " counted, or could have been on their way"
        )
    elif -claimed > doubt + slack:
        report.wrong.append(
            f"{short}you counted {-claimed} accepted shares more than the receipts have, of which {doubt} may"
            " be those that were never answered"
        )
    elif claimed:
        report.open.append(
            f"{short}{abs(claimed)} shares that were on their way at an end, or never answered"
        )
    if rejects and refused > slack:
        report.wrong.append(f"{short}the receipts have {refused} rejected shares more than you counted")
    return kept


def checked_receipts(
    arguments: argparse.Namespace, value: Any, report: Report, key: Optional[Keys], listed: Any
) -> None:
    chain = value if isinstance(value, list) else [value]
    if listed is not None:  # which has the changes of keys
        check_list(listed, report, key)
    check_receipts(chain, report, key)
    if arguments.previous is not None:
        check_told(chain, [parsed(read(path)) for path in arguments.previous], report)
    else:
        report.open.append("whether they are as they were told before: give those with --previous")
    check_chance(chain, report)
    if arguments.counted is not None:
        check_counted(chain, read_counted(arguments.counted), report)
    else:
        report.open.append("whether your pool counted the same shares: give its counts with --counted")
    report.open += [
        "whether there are receipts after the newest: ask again when an hour is over",
        "whether rejected shares were good, and unanswered ones arrived: your pool knows",
        "terms, against what you agreed to; and the buyer's name",
    ]


# An invoice to the buyer of an order

INVOICE = {
    *("number", "order", "buyer", "sat_per_ph_day", "billing", "from_utc", "to_utc", "issued_utc", "due_utc"),
    *("lines", "amount_sat"),
}
LINE = {"hour_utc", "kind", "part", "work", "amount_psat", "carry_in_psat", "posted_sat"}
WORK_OF_DIFFICULTY_1 = 1 << 48  # as receipts count it


def line_work(line: Any) -> int:
    """The work of its shares, as receipts count it."""
    done = Fraction(text(line, "work", r"\d{1,40}(\.\d{1,40})?")) * WORK_OF_DIFFICULTY_1
    if done.denominator != 1:
        raise Unreadable("'work' is of no share")
    return int(done)


def check_invoice(value: Any, report: Report, key: Optional[Keys]) -> None:
    """Everything that one invoice says of itself."""
    invoice = table(member(value, "invoice"), "invoice")
    if value.keys() - {"proof"} != {"content_sha256", "invoice"} or invoice.keys() - {"address"} != INVOICE:
        raise Unreadable("the invoice has other members than it should")
    wrong = len(report.wrong)
    content = text(value, "content_sha256", "[0-9a-f]{64}")
    report.same("the content hash", content, hashlib.sha256(canonical(invoice)).hexdigest())
    for name in ("order", "buyer"):
        text(invoice, name)
    text(invoice, "billing", "daily|weekly|monthly")
    begins, ends = moment(invoice, "from_utc"), moment(invoice, "to_utc")
    report.check(begins <= ends, "", "it ends before it begins")
    report.check(
        moment(invoice, "issued_utc") <= moment(invoice, "due_utc"), "", "it is due before it was made"
    )
    check_lines(invoice, ends, report)
    check_invoice_signature(value, report, key)
    if len(report.wrong) == wrong:
        report.good.append(
            f"invoice {natural(invoice, 'number')} of order {text(invoice, 'order')!r}:"
            f" {len(invoice['lines'])} lines follow from their work and the price, and come to"
            f" {money(invoice, 'amount_sat')} sat"
        )
    if "address" in invoice:
        address = text(invoice, "address", "[0-9A-Za-z]{14,100}")
        report.open.append(f"whose address {address} is: it is signed, if the invoice is, and no more")


def check_lines(invoice: Any, ends: int, report: Report) -> None:
    number, posted, gaps, rest = natural(invoice, "number"), 0, 0, None
    seen = set()
    for at, line in enumerate(rows(invoice, "lines"), 1):
        what = f"of line {at} of invoice {number}"
        check_exact(line, LINE, "a line")
        kind, hour = text(line, "kind", "work|make_good"), moment(line, "hour_utc")
        report.check(hour % HOUR_S == 0, "", f"the hour {what} is no whole one")
        report.check(hour + HOUR_S <= ends, "", f"the hour {what} is after its end")
        report.check((hour, kind, natural(line, "part")) not in seen, "", f"the hour {what} is in it before")
        seen.add((hour, kind, natural(line, "part")))
        amount, carried = whole(line, "amount_psat", 1 << 100), natural(line, "carry_in_psat", PSAT - 1)
        worth = price_psat(line_work(line), invoice)
        report.same(f"the amount {what}", amount, worth if kind == "work" else amount)
        report.check(kind == "work" or not worth, "", f"what is made good has work, {what}")
        report.same(f"what is posted {what}", whole(line, "posted_sat"), (amount + carried) // PSAT)
        gaps += rest not in (None, carried)
        posted, rest = posted + (amount + carried) // PSAT, (amount + carried) % PSAT
    report.same(f"the amount of invoice {number}", money(invoice, "amount_sat"), posted)
    report.check(posted > 0, "", "it comes to nothing")
    if gaps:
        report.open.append(
            f"what was left of a satoshi {gaps} times between lines: a charge between them is in another"
            f" invoice. It is less than {gaps} sat"
        )


def check_invoice_signature(value: Any, report: Report, key: Optional[Keys]) -> None:
    proof = value.get("proof")
    if proof is None:
        report.open.append("who made the invoice, and whether it was changed: it is not signed")
        return
    if (
        table(proof, "proof").keys() != {"version", "key", "signature"}
        or natural(proof, "version") != VERSION
    ):
        raise Unreadable(f"this program knows proofs of version {VERSION}")
    signer = unhex(proof, "key", 32)
    digest = tagged("angara/invoice", unhex(value, "content_sha256", 32))
    check_signer("invoice", signer, digest, unhex(proof, "signature", 64), report, key)
    if key is not None and signer.hex() in key.replaced:
        made = moment(value["invoice"], "issued_utc")
        report.check(made < key.replaced[signer.hex()], "", "it was made when its key was replaced already")
        report.open.append("who made it, before you pay: ask for it again, it is signed by the new key")


def check_invoice_chain(invoices: List[Any], report: Report) -> None:
    """One after the other, the one that is checked last: each goes on from the one before, and no part of an
    hour is in two of them, or comes before an earlier part."""
    for at in range(1, len(invoices)):
        before, invoice = invoices[at - 1], invoices[at]
        number = natural(invoice, "number")
        same = all(invoice[it] == before[it] for it in ("order", "buyer", "sat_per_ph_day", "billing"))
        report.check(same, "", f"invoice {number} and the one before it are of other orders, or terms")
        report.check(natural(before, "number") < number, "", f"invoice {number} is not the later one")
        ended, begins = moment(before, "to_utc"), moment(invoice, "from_utc")
        report.check(ended <= begins, "", f"invoice {number} begins before the one before it ends")
        if ended < begins:
            report.open.append(
                f"what was charged from {utc(ended)} to {utc(begins)}: no invoice here is of that"
            )
    begins, unknown, told, wrong = moment(invoices[0], "from_utc"), 0, set(), len(report.wrong)
    for invoice in invoices:
        for line in invoice["lines"]:
            hour, kind, part = moment(line, "hour_utc"), line["kind"], natural(line, "part")
            what = f"{kind} of {utc(hour)}, part {part}, of invoice {invoice['number']}"
            report.check((hour, kind, part) not in told, "", f"{what}, is in one before too")
            told.add((hour, kind, part))
            if hour < begins:
                unknown += whole(line, "amount_psat", 1 << 100)
            elif part:
                report.check((hour, kind, part - 1) in told, "", f"{what}, comes before part {part - 1}")
    if unknown:
        report.open.append(
            f"{in_sat(unknown)} sat of hours before {utc(begins)}: whether they were charged before. Give all"
            " invoices from the first on, each with --previous"
        )
    if len(invoices) > 1 and len(report.wrong) == wrong:
        report.good.append(
            f"it goes on from {len(invoices) - 1} before it, and charges nothing of them again"
        )


def receipt_change(row: Any) -> int:
    """By how much a receipt changes what would be owed for the work alone."""
    before, terms = work(row, "work_before"), row["terms"]
    alone = price_psat(before + work(row, "work"), terms) - price_psat(before, terms)
    due = natural(row["made_good"], "due_psat", 1 << 100) if "made_good" in row else 0
    return whole(row, "bill_psat", 1 << 100) - due - alone


class Hour:
    """What the receipts of an hour say, and what invoices have of it."""

    def __init__(self) -> None:
        self.receipts = self.delivered = self.charged = 0
        self.changes: List[int] = []
        self.told: Dict[int, int] = {}  # what is made good, by part

    def left_psat(self, terms: Any) -> int:
        """What is not charged of it yet: below zero, so much too much is."""
        changed = sum(self.changes) - sum(self.told.values())
        return price_psat(max(self.delivered - self.charged, 0), terms) + changed


def check_invoices_against(invoices: List[Any], chain: List[Any], report: Report) -> None:
    """Charges, against what the receipts of their hours say was delivered, and what they change."""
    terms, wrong, unknown = chain[-1]["terms"], len(report.wrong), 0
    for name, other in (("order", chain[-1]), ("buyer", chain[-1]), ("sat_per_ph_day", terms)):
        report.same(f"{name!r} of the receipts", other[name], invoices[-1][name])
    hours: Dict[int, Hour] = {}
    for row in chain:
        of = hours.setdefault(moment(row, "hour_utc"), Hour())
        of.receipts += 1
        of.delivered += work(row, "work")
        of.changes += [it for it in [receipt_change(row)] if it]
    first, last = min(hours), max(hours)
    for line in (it for invoice in invoices for it in invoice["lines"]):
        hour = moment(line, "hour_utc")
        if not first <= hour <= last:
            unknown += 1
        elif line["kind"] == "work":
            hours.setdefault(hour, Hour()).charged += line_work(line)
        else:
            hours.setdefault(hour, Hour()).told[natural(line, "part")] = line["amount_psat"]
    begins, ends = moment(invoices[0], "from_utc"), moment(invoices[-1], "to_utc")
    for hour, of in sorted(hours.items()):
        check_charged(hour, of, terms, begins <= hour < ends, report)
    missing = sum(of.left_psat(terms) for hour, of in hours.items() if begins <= hour < ends)
    if missing > 0:
        report.open.append(
            f"{in_sat(missing)} sat of the receipts of these hours: they are in no invoice here"
        )
    if unknown:
        report.open.append(f"{unknown} lines of hours before or after the receipts that you gave")
    if len(report.wrong) == wrong:
        report.good.append("no hour is charged with more than its receipts have, and what they make good is")


def check_charged(hour: int, of: Hour, terms: Any, within: bool, report: Report) -> None:
    """`within`: all of it is to be in these invoices, but for what came later than they were made."""
    more = of.charged - of.delivered
    if more > 0:
        worth = in_sat(price_psat(more, terms))
        report.wrong.append(f"more work of {utc(hour)} is charged than its receipts have, worth {worth} sat")
    for part, amount in sorted(of.told.items()):
        change = of.changes[part] if part < len(of.changes) else 0
        report.same(f"what is made good of {utc(hour)}, part {part}, in psat", amount, change)
    left = of.left_psat(terms)
    # Each charge is rounded down by itself. What came late has its work and its change in another invoice.
    if within and left < -2 * (of.receipts + 1):
        report.wrong.append(
            f"what the receipts of {utc(hour)} make good is not in the invoice: {in_sat(-left)} sat too much"
        )


def checked_invoice(
    arguments: argparse.Namespace, value: Any, report: Report, key: Optional[Keys], listed: Any
) -> None:
    if listed is not None:  # which has the changes of keys
        check_list(listed, report, key)
    check_invoice(value, report, key)
    invoices = [value["invoice"]]
    for path in arguments.previous or ():
        other = Report()
        before = table(read_beside(path, other), "an invoice before")
        check_invoice(before, other, key)
        report.take("an invoice before", other)
        invoices.append(before["invoice"])
    if len(invoices) == 1:
        report.open.append("whether something was charged before: give --previous, each invoice before it")
    check_invoice_chain([*sorted(invoices[1:], key=lambda it: it["number"]), invoices[0]], report)
    invoices.sort(key=lambda it: it["number"])
    if arguments.against is not None:
        other = Report()
        found = read_beside(arguments.against, other)
        chain = found if isinstance(found, list) else [found]
        check_receipts(chain, other, key)
        report.take("the receipts", other)
        check_invoices_against(invoices, chain, report)
    else:
        report.open.append(
            "whether the work was delivered: give --against, the order's receipts of its hours"
        )
    report.open += [
        "what was paid of it: an invoice is the same paid or not",
        "price and terms, against what you agreed to; and the buyer's name",
    ]


# A reserve: coins whose keys signed a message, as BIP322 has it ("full", proof of funds)
#
# `to_spend` is a transaction that no chain takes: it pays nothing to an address of the pool, and has the hash
# of the message. `to_sign` spends that, and every coin. A signature of an input is over all inputs, so each
# key signed the message, and what it signed moves nothing. What follows is Bitcoin's: how `to_sign` is hashed
# (BIP143 and BIP341), and three kinds of scripts. Coins of others count for nothing.

RESERVE = {
    *("version", "number", "root", "block_height", "block_header", "challenge", "coins", "transactions"),
    *("total_sat", "key", "previous", "hash", "signature"),
}
COIN = {"txid", "vout", "amount_sat", "height", "witness"}
TX_BYTES_MAX = 1_000_000  # of a block, without witnesses
WITNESS_MAX = 24  # of a coin: signatures of twenty keys, and their script
SCRIPT_BYTES_MAX = 10_000
BLOCK_OFF_S = 2 * 3600  # that a block may say it is later than it is
SIGHASH_ALL = 1  # a signature of all inputs and all outputs


class Output(NamedTuple):
    """Of a transaction."""

    amount_sat: int
    script: bytes


class Spent(NamedTuple):
    """What an input spends: its transaction's hash, as it is hashed, and number, 36 bytes; and the output."""

    outpoint: bytes
    output: Output
    sequence: int = 0


def little(number: int, size: int) -> bytes:
    return number.to_bytes(size, "little")


def sized(script: bytes) -> bytes:
    """With its length before it."""
    size = len(script)
    return (little(size, 1) if size < 0xFD else b"\xfd" + little(size, 2)) + script


def some_bytes(value: Any, least: int, most: int) -> bytes:
    return bytes.fromhex(text({"bytes": value}, "bytes", f"(?:[0-9a-f]{{2}}){{{least},{most}}}"))


def reserve_message(root: Dict[str, Any], key: str, height: int, block: str) -> bytes:
    """What the coins' keys sign; a person reads it on a signer's screen."""
    return (
        f"angara reserve 1; {root['network']}; {root['day']}; {root['total_sat']} sat owed;"
        f" root {root['hash']}; key {key}; block {height} {block}"
    ).encode()


def to_spend(message: bytes, script: bytes) -> bytes:
    """Of a message and the script of an address (BIP322, Full)."""
    signs = b"\x00\x20" + tagged("BIP0322-signed-message", message)
    spends = b"\x01" + bytes(32) + b"\xff" * 4 + sized(signs) + bytes(4)
    return bytes(4) + spends + b"\x01" + bytes(8) + sized(script) + bytes(4)


def outputs_of(tx: bytes) -> List[Output]:
    """Of a transaction, as it is hashed: without witnesses."""
    at = 4

    def taken(size: int) -> bytes:
        nonlocal at
        at += size
        if at > len(tx):
            raise Unreadable("a transaction ends too early")
        return tx[at - size : at]

    def number(size: int) -> int:
        return int.from_bytes(taken(size), "little")

    def count() -> int:
        first = number(1)
        return first if first < 0xFD else number(2 << first - 0xFD)

    for _ in range(count()):
        taken(36)
        taken(count())
        taken(4)
    found = []
    for _ in range(count()):
        amount_sat = number(8)
        found.append(Output(amount_sat, taken(count())))
    if at + 4 != len(tx):
        raise Unreadable("a transaction is longer or shorter than it says")
    return found


class ToSign:
    """The transaction that spends them all, and pays nobody."""

    def __init__(self, spent: List[Spent], version: int = 0, lock_time: int = 0) -> None:
        self.spent = spent
        self.version, self.lock_time = little(version, 4), little(lock_time, 4)
        hashed = (
            b"".join(it.outpoint for it in spent),
            b"".join(little(it.output.amount_sat, 8) for it in spent),
            b"".join(sized(it.output.script) for it in spent),
            b"".join(little(it.sequence, 4) for it in spent),
            bytes(8) + b"\x01\x6a",  # one output, of nothing, that nobody can spend
        )
        self.hashes = [hashlib.sha256(it).digest() for it in hashed]

    def hashed_143(self, at: int, code: bytes) -> bytes:
        """What an ECDSA key signs of that input, of all of it (BIP143)."""
        prevouts, _, _, sequences, outputs = (hashlib.sha256(it).digest() for it in self.hashes)
        spent = self.spent[at]
        own = spent.outpoint + sized(code) + little(spent.output.amount_sat, 8) + little(spent.sequence, 4)
        return sha256d(
            self.version + prevouts + sequences + own + outputs + self.lock_time + little(SIGHASH_ALL, 4)
        )

    def hashed_341(self, at: int, kind: int) -> bytes:
        """What a taproot key signs of that input, of all of it (BIP341)."""
        head = bytes([0, kind]) + self.version + self.lock_time
        return tagged("TapSighash", head + b"".join(self.hashes) + b"\x00" + little(at, 4))

    def is_signed(self, at: int, witness: List[bytes]) -> Optional[bool]:
        """By the keys of what that input spends; None where this program does not know its script."""
        script = self.spent[at].output.script
        if not witness:
            return False
        if len(script) == 22 and script[:2] == b"\x00\x14":  # P2WPKH
            code = b"\x76\xa9\x14" + script[2:] + b"\x88\xac"
            known = len(witness) == 2 and hash160(witness[1]) == script[2:]
            return known and self._ecdsa(at, code, witness[1], witness[0])
        if len(script) == 34 and script[:2] == b"\x00\x20":  # P2WSH
            code = witness[-1]
            if hashlib.sha256(code).digest() != script[2:]:
                return False
            keys = multisig_keys(code)
            return None if keys is None else self._multisig(at, code, keys, witness[:-1])
        if len(script) == 34 and script[:2] == b"\x51\x20" and len(witness) == 1:  # P2TR, by its key
            signature, kind = witness[0][:64], 0
            if len(witness[0]) == 65:
                kind = SIGHASH_ALL
                if witness[0][64] != kind:
                    return False
            elif len(witness[0]) != 64:
                return False
            return signed_by(script[2:], self.hashed_341(at, kind), signature)
        return None

    def _multisig(self, at: int, code: bytes, keys: Tuple[int, List[bytes]], stack: List[bytes]) -> bool:
        """As many signatures as are needed, in the order of the keys."""
        needed, left = keys
        if len(stack) != needed + 1 or stack[0]:
            return False
        for signature in stack[1:]:
            while left and not self._ecdsa(at, code, left[0], signature):
                left = left[1:]
            if not left:
                return False
            left = left[1:]
        return True

    def _ecdsa(self, at: int, code: bytes, key: bytes, signature: bytes) -> bool:
        if len(signature) < 9 or signature[-1] != SIGHASH_ALL:
            return False
        return ecdsa_signed_by(key, self.hashed_143(at, code), signature[:-1])


def multisig_keys(script: bytes) -> Optional[Tuple[int, List[bytes]]]:
    """How many signatures it takes, and of which keys; None: it is another script."""
    keys = [script[at + 1 : at + 34] for at in range(1, len(script) - 2, 34)]
    if len(script) < 37 or not 0 < script[0] - 0x50 <= len(keys) <= 16:
        return None
    written = b"".join(b"\x21" + it for it in keys)
    same = script[:1] + written + bytes([0x50 + len(keys), 0xAE]) == script
    return (script[0] - 0x50, keys) if same and len(keys[-1]) == 33 else None


def ecdsa_signed_by(key: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether that key signed it, and wrote it in the one way there is: DER, and the lower s."""
    numbers = der_numbers(signature)
    point = lifted(int.from_bytes(key[1:], "big")) if len(key) == 33 and key[0] in (2, 3) else None
    if numbers is None or point is None:
        return False
    r, s = numbers
    if not (0 < r < ORDER and 0 < s <= ORDER // 2):
        return False
    if key[0] == 3:
        point = point[0], FIELD - point[1], 1
    inverse = pow(s, ORDER - 2, ORDER)
    found = combined(int.from_bytes(digest, "big") * inverse % ORDER, r * inverse % ORDER, point)
    return found is not None and found[0] % ORDER == r


def der_numbers(signature: bytes) -> Optional[Tuple[int, int]]:
    """r and s, where they are written in the shortest way."""
    if not 8 <= len(signature) <= 72:
        return None
    middle = 4 + signature[3]
    r = int.from_bytes(signature[4:middle], "big")
    s = int.from_bytes(signature[middle + 2 :], "big")
    written = b""
    for number in (r, s):
        size = number.bit_length() // 8 + 1
        written += bytes([2, size]) + number.to_bytes(size, "big")
    return (r, s) if bytes([0x30, len(written)]) + written == signature else None


def hash160(data: bytes) -> bytes:
    """Of a public key: what a P2WPKH script has of it."""
    return ripemd160(hashlib.sha256(data).digest())


# RIPEMD-160 (Dobbertin, Bosselaers, Preneel 1996), which not every build of Python has. Of each of five
# rounds, in both lines: which word is taken, and by how much is turned.
WORDS = (
    ("0123456789abcdef", "74d1a6f3c0952eb8", "3ae49f812706db5c", "19ba08c4d37fe562", "40597c2ae138b6fd"),
    ("5e7092b4d6f81a3c", "6b370d5aef8c4912", "f5137e69b8c2a04d", "86413bf05c2d97ae", "cfa4158762de039b"),
)
TURNS = (
    ("befc5879bdef6798", "768db97f7cf9b7dc", "bd67e9dfe8d65c75", "bcefef989e56865c", "9f5b68dc5cdeb856"),
    ("899bdff5778beec6", "9df7c89b77c76fdb", "97fb866ecd5edd75", "f58bee6e69c9c5f8", "85c9c5e68d65fdbb"),
)
ADDED = (
    (0, 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xA953FD4E),
    (0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0x7A6D76E9, 0),
)
MIXED = (
    lambda x, y, z: x ^ y ^ z,
    lambda x, y, z: (x & y) | (~x & z),
    lambda x, y, z: (x | ~y) ^ z,
    lambda x, y, z: (x & z) | (y & ~z),
    lambda x, y, z: x ^ (y | ~z),
)
BITS_32 = 0xFFFFFFFF


def turned(number: int, bits: int) -> int:
    number &= BITS_32
    return (number << bits | number >> 32 - bits) & BITS_32


def ripemd160(data: bytes) -> bytes:
    state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0]
    padded = data + b"\x80" + bytes(-(len(data) + 9) % 64) + little(8 * len(data), 8)
    for start in range(0, len(padded), 64):
        block = [int.from_bytes(padded[at : at + 4], "little") for at in range(start, start + 64, 4)]
        lines = []
        for line in (0, 1):
            a, b, c, d, e = state
            for number in range(80):
                of, at = divmod(number, 16)
                word, turn = int(WORDS[line][of][at], 16), int(TURNS[line][of][at], 16)
                summed = a + MIXED[4 - of if line else of](b, c, d) + block[word] + ADDED[line][of]
                a, b, c, d, e = e, (turned(summed, turn) + e) & BITS_32, b, turned(c, 10), d
            lines.append((a, b, c, d, e))
        left, right = lines
        state = [
            (state[(at + 1) % 5] + left[(at + 2) % 5] + right[(at + 3) % 5]) & BITS_32 for at in range(5)
        ]
    return b"".join(little(it, 4) for it in state)


def check_reserve(row: Any, report: Report, key: Optional[Keys]) -> int:
    """All that a reserve says of itself; what coins are worth that are signed for."""
    check_exact(row, RESERVE, "a reserve")
    if natural(row, "version") != VERSION:
        raise Unreadable(f"this program knows reserves of version {VERSION}")
    number, root = natural(row, "number"), member(row, "root")
    check_root(root, report)
    text(root, "network", "[a-z0-9]{1,20}")
    unhex(row, "previous", 32)
    signer, digest = unhex(row, "key", 32), unhex(row, "hash", 32)
    holds = report.same(f"hash of reserve {number}", digest.hex(), row_hash("angara/reserve", row).hex())
    report.check(
        holds and signed_by(signer, digest, unhex(row, "signature", 64)),
        f"reserve {number} of root {root['number']}, signed by {signer.hex()}",
        f"reserve {number} is not signed by its key",
    )
    check_whose("key of the reserve", signer.hex(), report, key)
    if key is not None:
        late = root["key"] != signer.hex() and signer.hex() in key.replaced
        report.check(not late, "", "the reserve is signed by a key that its root's had replaced")
        made = int.from_bytes(unhex(row, "block_header", 80)[68:72], "little")  # or later
        known = made - BLOCK_OFF_S < key.replaced.get(signer.hex(), 1 << 62)
        report.check(known, "", "its block is of when the key was replaced already that signed the reserve")
    if root["key"] != signer.hex():
        report.open.append("why the reserve has another key than its root")
    signed_sat = check_coins(row, check_block(row, root, report), report)
    report.open += [
        "whether the coins were lent for a day, or are owed to others too: no signature tells",
        "what buyers of orders paid ahead: it is in no total, and its coins are to be in no reserve",
    ]
    return signed_sat


def check_block(row: Any, root: Any, report: Report) -> bytes:
    """As of which block the coins are; the message that names it."""
    header, height = unhex(row, "block_header", 80), natural(row, "block_height")
    block = sha256d(header)
    nbits, at_s = header[75:71:-1].hex(), int.from_bytes(header[68:72], "little")
    when = f"block {height} of {utc(at_s)}, {block[::-1].hex()}"
    report.check(
        int.from_bytes(block, "little") <= target(nbits),
        f"the coins are as of {when}",
        f"the header of {when} is not the work that it says",
    )
    report.open.append(f"whether the chain has {when}, of nBits {nbits}: a node knows")
    if at_s < (day_number(text(root, "day"), "day") + 1) * DAY_S:
        report.open.append(f"what became of the coins from that block to the end of {root['day']}")
    return reserve_message(root, row["key"], height, block[::-1].hex())


def check_coins(row: Any, message: bytes, report: Report) -> int:
    """Each coin, against its transaction, its key and the message; the worth of those that hold."""
    challenge, wrong = member(row, "challenge"), len(report.wrong)
    check_exact(challenge, {"script", "witness"}, "the challenge")
    script = some_bytes(challenge["script"], 4, 42)
    spent = [Spent(sha256d(to_spend(message, script)) + bytes(4), Output(0, script))]
    coins = rows(row, "coins", COINS_MAX)
    spent += coins_of(row, coins, report)
    total = sum(it.output.amount_sat for it in spent)
    report.same("total of the coins", money(row, "total_sat"), total)
    witnesses = [
        [some_bytes(part, 0, SCRIPT_BYTES_MAX) for part in rows(it, "witness", WITNESS_MAX)]
        for it in (challenge, *coins)
    ]
    if len(report.wrong) > wrong:
        return 0
    to_sign, signed_sat = ToSign(spent), 0
    for at, witness in enumerate(witnesses):
        name = coin_name(coins[at - 1]) if at else "the address that the message is for"
        is_signed, output = to_sign.is_signed(at, witness), spent[at].output
        if is_signed is None:
            report.open.append(
                f"{name}: its script {output.script.hex()} is of another kind, and what it has is not counted"
            )
        elif report.check(is_signed, "", f"{name}: its key did not sign this message"):
            signed_sat += output.amount_sat
    if len(report.wrong) == wrong:
        report.good.append(
            f"{len(coins)} coins of {total} sat are outputs of the transactions that they name, and of these"
            f" {signed_sat} sat are signed for by their keys: {message.decode()}"
        )
    return signed_sat


def coin_name(coin: Any) -> str:
    return f"coin {coin['txid']}:{coin['vout']}"


def coins_of(row: Any, coins: List[Any], report: Report) -> List[Spent]:
    """Each once, as the output that its transaction has."""
    known: Dict[bytes, List[Output]] = {}
    for it in rows(row, "transactions", COINS_MAX):
        tx = some_bytes(it, 60, TX_BYTES_MAX)
        known[sha256d(tx)] = outputs_of(tx)
    found: Dict[bytes, Spent] = {}
    for coin in coins:
        check_exact(coin, COIN, "a coin")
        txid, vout = unhex(coin, "txid", 32)[::-1], natural(coin, "vout", 0xFFFFFFFF)
        name, made, amount = coin_name(coin), natural(coin, "height"), money(coin, "amount_sat")
        outpoint, outputs = txid + little(vout, 4), known.get(txid, [])
        report.check(outpoint not in found, "", f"{name} is there twice")
        report.check(made <= row["block_height"], "", f"{name} was made after block {row['block_height']}")
        if vout >= len(outputs):
            report.wrong.append(f"{name}: there is no transaction of that hash with such an output")
            continue
        if len(outputs[vout].script) > SCRIPT_BYTES_MAX:
            raise Unreadable(f"{name} has a script that nobody can spend")
        report.same(f"amount of {name}", amount, outputs[vout].amount_sat)
        found[outpoint] = Spent(outpoint, outputs[vout])
        report.open.append(f"{name}, {amount} sat: whether it is in block {made}, and unspent (gettxout)")
    if not report.wrong and len(row["transactions"]) != len({it[:32] for it in found}):
        report.wrong.append("there are other transactions than those of the coins")
    return list(found.values())


def check_covers(root: Any, signed_sat: int, report: Report) -> None:
    """The coins against what is owed to all."""
    owed_sat = money(root, "total_sat")
    words = f"{signed_sat} sat are signed for, and {owed_sat} sat owed to all at the end of {root['day']}"
    report.check(signed_sat >= owed_sat, words, f"{words}: it is not enough")


def checked_reserve(
    arguments: argparse.Namespace, value: Any, report: Report, key: Optional[Keys], listed: Any
) -> None:
    signed_sat = check_reserve(value, report, key)
    check_covers(value["root"], signed_sat, report)
    if listed is not None:
        check_listed("root", listed, [value["root"]], report, key, "reserve")
    else:
        report.open.append("whether everybody is shown the same root: give --roots, the list of them")


def check_beside(path: str, root: Any, report: Report, key: Optional[Keys]) -> None:
    """The reserve that was published beside a statement's root."""
    beside = Report()
    row = table(read_beside(path, beside), "the reserve")
    signed_sat = check_reserve(row, beside, key)
    if root != row["root"]:
        beside.wrong.append(f"it is of root {row['root']['number']}, and not of the statement's")
    check_covers(row["root"], signed_sat, beside)
    report.good += [f"the reserve: {it}" for it in beside.good if it]
    report.take("the reserve", beside)
    report.open += [f"the reserve: {it}" for it in beside.open]


# The command


def checked(arguments: argparse.Namespace) -> Report:
    """Raises Unreadable."""
    report, data = Report(), read(arguments.statement)
    value = parsed(data)
    kind = kind_of(value)
    for name in ("roots", "previous", "counted", "against", "reserve"):
        if getattr(arguments, name) is not None and name not in TAKES[kind]:
            raise Unreadable(f"--{name} is for {' and '.join(it for it in TAKES if name in TAKES[it])}")
    listed = None if arguments.roots is None else parsed(read(arguments.roots))
    known = None if arguments.key is None else unhex({"key": arguments.key}, "key", 32)
    key = None if known is None else Keys(known, value if kind == "lists" else listed)
    if kind != "lists":
        check_file(data, value, report)
    CHECKED[kind](arguments, value, report, key, listed)
    return report


# What may be given beside each kind of file.
TAKES = {
    "statements": {"roots", "previous", "reserve"},
    "shares": {"roots", "against"},
    "receipts": {"roots", "previous", "counted"},
    "invoices": {"roots", "previous", "against"},
    "reserves": {"roots"},
    "lists": {"previous"},
}


def kind_of(value: Any) -> str:
    if isinstance(value, list) and value:
        return "lists" if is_list(value) else "receipts"
    members = {"closings": "shares", "invoice": "invoices", "statement": "statements", "coins": "reserves"}
    members["hour_utc"] = "receipts"  # of shares too, which have closings
    found = (kind for name, kind in members.items() if isinstance(value, dict) and name in value)
    return next(found, "statements")


def checked_statement(
    arguments: argparse.Namespace, value: Any, report: Report, key: Optional[Keys], listed: Any
) -> None:
    check_statement(table(value, "the file"), report, key)
    root = member(value["proof"], "root") if value.get("proof") is not None else None
    if listed is not None:
        check_listed("root", listed, [] if root is None else [root], report, key, "statement")
    elif root is not None:
        report.open.append(
            "whether everybody is shown the same root: give --roots, the list that is published"
        )
    if arguments.reserve is None:
        report.open.append("whether the coins of the reserve are there: give --reserve, what is published")
    elif root is None:
        raise Unreadable("--reserve is for statements that name a root")
    else:
        check_beside(arguments.reserve, root, report, key)
    if arguments.previous is None:
        report.open.append("the opening balance: give --previous, the statement of the period before")
        return
    if len(arguments.previous) > 1:
        raise Unreadable("there is one statement before a statement")
    before = Report()
    previous = table(read_beside(arguments.previous[0], before), "the statement before")
    check_statement(previous, before, key)
    report.take("the statement before", before)
    check_previous(value, previous, report)


def checked_list(
    arguments: argparse.Namespace, value: Any, report: Report, key: Optional[Keys], listed: Any
) -> None:
    check_list(value, report, key)
    if key is None:
        report.open.append("whose keys these are: give the one you know with --key")
    if arguments.previous is not None:
        check_told(value, [parsed(read(path)) for path in arguments.previous], report)
    else:
        report.open.append("whether it says what it said before: give the list that you have with --previous")
    report.open.append("whether others are given the same: compare the hash of the newest row with theirs")


def checked_shares(
    arguments: argparse.Namespace, value: Any, report: Report, key: Optional[Keys], listed: Any
) -> None:
    check_hour(value, report, key)
    if listed is not None:
        check_listed("closing", listed, value["closings"], report, key, "hour")
    else:
        report.open.append("whether everybody is shown the same closings: give --roots, the list of them")
    if arguments.against is not None:
        other = Report()
        statement = table(read_beside(arguments.against, other), "the statement")
        check_statement(statement, other, key)
        report.take("the statement", other)
        check_against(value, statement, report)
    else:
        report.open.append("whether they are what you were paid by: give --against, the statement")


CHECKED = {
    "statements": checked_statement,
    "shares": checked_shares,
    "receipts": checked_receipts,
    "invoices": checked_invoice,
    "reserves": checked_reserve,
    "lists": checked_list,
}


def shown(words: str) -> str:
    """For a terminal, which must not be told what to do by a file."""
    visible = "".join(it if it.isprintable() else "?" for it in words)[:2000]
    encoding = sys.stdout.encoding or "ascii"
    return visible.encode(encoding, "replace").decode(encoding)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="angara-verify",
        description="Check what a pool signed, without trusting it.",
    )
    found.add_argument(
        "statement", help="the statement, receipts of an order, an invoice, shares, reserve, or roots, JSON"
    )
    found.add_argument("--key", metavar="PUBKEY", help="the pool's key, 64 hex digits, as you know it")
    found.add_argument("--roots", metavar="FILE", help="the published list of roots, or of closings, JSON")
    found.add_argument(
        "--previous",
        metavar="FILE",
        action="append",
        help="the statement before; or each list, receipts or invoices that you were given before, JSON",
    )
    found.add_argument("--counted", metavar="FILE", help="of receipts: what your own pool counted, CSV")
    found.add_argument(
        "--against", metavar="FILE", help="of shares their day's statement, of an invoice receipts"
    )
    found.add_argument("--reserve", metavar="FILE", help="of a statement: the reserve of its last day, JSON")
    return found


def verify(asked: argparse.Namespace) -> int:
    """Say what was found; the exit code."""
    try:
        report = checked(asked)
    except (Unreadable, MemoryError, RecursionError) as error:
        print(shown(f"UNREADABLE {error or 'it is too large'}"))
        return 2
    found: List[Tuple[str, List[str]]] = [
        ("ok", report.good),
        ("WRONG", report.wrong),
        ("not checked", report.open),
    ]
    for head, lines in found:
        for line in lines:
            if line:
                print(shown(f"{head}: {line}"))
    print("Something is WRONG." if report.wrong else "Nothing is wrong; see what was not checked.")
    return 1 if report.wrong else 0


def command() -> None:
    sys.exit(verify(parser().parse_args()))


if __name__ == "__main__":
    command()
