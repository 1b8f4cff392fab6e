"""What is told of machines, meters and tenants that are listed as long as something is wrong with them.

As `pool.messages.conditions`. Each is told once, and told again when it is over: a machine that is listed no
more is well, as far as the list is whole. Must not know: clocks, what was told, whom, who lists.
"""

from collections.abc import Collection, Iterator

from pool.messages.conditions import Finding
from pool.messages.look import LastingLook, Look
from pool.messages.message import WORDS_CHARS_MAX, plain


def lasting_conditions(look: Look, raised: Collection[str]) -> list[Finding]:
    """Of everything that is listed, and of what was."""
    return [finding for it in look.lasting for finding in _of(it, raised)]


def _of(it: LastingLook, raised: Collection[str]) -> Iterator[Finding]:
    wrong = {f"{it.of}/{plain(one.name)}": one for one in it.listed}
    before = {key.removeprefix(f"{it.kind}:") for key in raised if key.startswith(f"{it.kind}:")}
    for subject in (*wrong, *sorted(before - wrong.keys())):
        name, one = subject.partition("/")[2], wrong.get(subject)
        holds: bool | None = True
        if one is None:
            holds = False if it.whole else None
        yield Finding(
            kind=it.kind,
            subject=subject,
            name=name,
            holds=holds,
            words=f"{name} {it.well}" if one is None else f"{name}: {plain(one.words, WORDS_CHARS_MAX)}",
            raise_looks=1,
            clear_looks=1,
        )
