"""secp256k1 from its papers, with integers alone: what another implementation is judged by.

Points are affine, but while they are multiplied; `None` is infinity. BIP 324 for the encoding, BIP 340 for
signatures. Slow, and not for secrets.
"""

import hashlib
from random import Random

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
Point = tuple[int, int] | None
Jacobian = tuple[int, int, int]


def inverse(a: int) -> int:
    return pow(a, -1, P)


def root(a: int) -> int | None:
    """The square root that is a power of it, where it has one."""
    found = pow(a, (P + 1) // 4, P)
    return found if found * found % P == a % P else None


_ROOT = root(-3 % P)
assert _ROOT is not None
C = _ROOT if _ROOT % 2 == 0 else P - _ROOT  # the root of -3 that BIP 324 means is even


def add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = 3 * a[0] * a[0] * inverse(2 * a[1]) % P
    else:
        slope = (b[1] - a[1]) * inverse(b[0] - a[0]) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(k: int, point: Point) -> Point:
    """In Jacobian coordinates, where x is X / Z^2 and y is Y / Z^3 and infinity has no Z: one inverse at the
    end, in place of one for each bit."""
    if point is None:
        return None
    jacobian = 1, 1, 0
    for bit in f"{k:b}":
        jacobian = doubled(jacobian)
        if bit == "1":
            jacobian = sum_of(jacobian, point)
    big_x, big_y, z = jacobian
    if z == 0:
        return None
    once = inverse(z)
    return big_x * once**2 % P, big_y * once**3 % P


def doubled(a: Jacobian) -> Jacobian:
    x, y, z = a
    y_squared = y * y % P
    s, slope = 4 * x * y_squared % P, 3 * x * x
    found = (slope * slope - 2 * s) % P
    return found, (slope * (s - found) - 8 * y_squared * y_squared) % P, 2 * y * z % P


def sum_of(a: Jacobian, b: tuple[int, int]) -> Jacobian:
    x, y, z = a
    if z == 0:
        return b[0], b[1], 1
    z_squared = z * z % P
    h, r = (b[0] * z_squared - x) % P, (b[1] * z_squared * z - y) % P
    if h == 0:
        return doubled(a) if r == 0 else (1, 1, 0)
    h_squared = h * h % P
    h_cubed, v = h * h_squared % P, x * h_squared % P
    found = (r * r - h_cubed - 2 * v) % P
    return found, (r * (v - found) - y * h_cubed) % P, z * h % P


def lift_x(x: int) -> Point:
    """The point of this x with an even y, where there is one."""
    y = root((x**3 + 7) % P)
    return None if y is None else (x, y if y % 2 == 0 else P - y)


def xswiftec(u: int, t: int) -> int:
    """The x that an encoding stands for."""
    u, t = u % P or 1, t % P or 1
    if (u**3 + t**2 + 7) % P == 0:
        t = 2 * t % P
    big_x = (u**3 + 7 - t**2) * inverse(2 * t) % P
    big_y = (big_x + t) * inverse(C * u) % P
    ratio = big_x * inverse(big_y)
    for x in (u + 4 * big_y**2, (-ratio - u) * inverse(2), (ratio - u) * inverse(2)):
        if root(((x % P) ** 3 + 7) % P) is not None:
            return x % P
    raise AssertionError("one of the three is always on the curve")


def xswiftec_inv(x: int, u: int, case: int) -> int | None:
    """The t with which u stands for x, by one of eight ways; None where that way leads nowhere."""
    if case & 2 == 0:
        if root(((-x - u) ** 3 + 7) % P) is not None:
            return None
        v, s = x, -(u**3 + 7) * inverse(u * u + u * x + x * x) % P
    else:
        s = (x - u) % P
        if s == 0:
            return None
        r = root(-s * (4 * (u**3 + 7) + 3 * s * u * u) % P)
        if r is None or (case & 1 and r == 0):
            return None
        v = (-u + r * inverse(s)) * inverse(2) % P
    w = root(s)
    if w is None:
        return None
    sign, half = (-1 if case & 5 in (0, 5) else 1), inverse(2)
    other = 1 + C if case & 1 else 1 - C
    return sign * w * (u * other * half + v) % P


def encode(x: int, random: Random) -> bytes:
    """One of the encodings of an x."""
    while True:
        u = random.randrange(1, P)
        t = xswiftec_inv(x, u, random.randrange(8))
        if t is not None:
            return u.to_bytes(32, "big") + t.to_bytes(32, "big")


def decode(encoded: bytes) -> int:
    return xswiftec(int.from_bytes(encoded[:32], "big"), int.from_bytes(encoded[32:], "big"))


def public_x(secret: int) -> int:
    point = times(secret, G)
    assert point is not None
    return point[0]


def tagged(tag: str, *parts: bytes) -> bytes:
    tag_hash = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(tag_hash * 2 + b"".join(parts)).digest()


def shared_secret(secret: int, ours: bytes, theirs: bytes, *, initiates: bool) -> bytes:
    """BIP 324's v2_ecdh."""
    point = times(secret, lift_x(decode(theirs)))
    assert point is not None
    a, b = (ours, theirs) if initiates else (theirs, ours)
    return tagged("bip324_ellswift_xonly_ecdh", a, b, point[0].to_bytes(32, "big"))


def verifies(signature: bytes, message: bytes, public: bytes) -> bool:
    """BIP 340."""
    point = lift_x(x) if (x := int.from_bytes(public, "big")) < P else None
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if point is None or r >= P or s >= N:
        return False
    e = int.from_bytes(tagged("BIP0340/challenge", signature[:32], public, message), "big") % N
    found = add(times(s, G), times(N - e, point))
    return found is not None and found[1] % 2 == 0 and found[0] == r
