"""The reserve disclosure as facts and plain words, the same for tenants and the operator.

Invariants: says what the figures are and what they are not. Must not know: how they are computed.
"""

from payouts.statements.reserve import Reserve
from pool.reports.cells import amount, count
from pool.reports.document import Block, Cell, Fact, Facts, Prose
from pool.reports.figures import percent_of


def reserve_blocks(reserve: Reserve) -> tuple[Block, ...]:
    """What the pool needs, what it has, and what that means."""
    ruin = percent_of(reserve.ruin)
    needed = amount(reserve.needed_sat)
    if reserve.needed_sat is None and reserve.fee is not None:
        needed = Cell("no reserve is enough", None)
    facts = Facts(
        key="reserve",
        facts=(
            Fact(
                key="fee", label="The pool's fee, of all work bought in the period", cell=_part(reserve.fee)
            ),
            Fact(key="blocks_found", label="Blocks found so far", cell=count(reserve.blocks_found)),
            Fact(
                key="blocks_orphaned",
                label="of which orphaned",
                cell=count(reserve.blocks_orphaned),
                part=True,
            ),
            Fact(key="effective_fee", label="Fee less orphaned blocks", cell=_part(reserve.effective_fee)),
            Fact(key="block_sat", label="Value of a block (BTC)", cell=amount(reserve.block_sat)),
            Fact(
                key="needed_sat",
                label=f"Reserve for a risk of ruin of {ruin} (BTC)",
                cell=needed,
                strong=True,
            ),
            Fact(
                key="matured_sat", label="Matured coins in the books (BTC)", cell=amount(reserve.matured_sat)
            ),
            Fact(key="owed_sat", label="Owed to all tenants (BTC)", cell=amount(-reserve.owed_sat)),
            Fact(key="free_sat", label="Free to bear risk (BTC)", cell=amount(reserve.free_sat), strong=True),
            Fact(key="pending_sat", label="Blocks not mature yet (BTC)", cell=amount(reserve.pending_sat)),
            Fact(
                key="ruin_at_free", label="Risk of ruin with what is free", cell=_part(reserve.ruin_at_free)
            ),
        ),
    )
    return facts, Prose(
        text="The pool pays for work at a fixed price and takes the luck of finding blocks upon itself. The"
        " reserve is what it would need so that a run of bad luck, however long, ruins it only with the"
        " risk stated (Rosenfeld, Analysis of Bitcoin Pooled Mining Reward Systems, 2.2), at this fee and"
        " for ever. The coins are those in the pool's own books at the end of the period: block income that"
        " matured and what was paid in, less what was paid out. They are not audited, not insured and not"
        " set aside for any tenant; other assets and debts of the operator are not in them."
    )


def _part(fraction: str | None) -> Cell:
    return Cell("n/a", None) if fraction is None else Cell(percent_of(fraction), fraction)
