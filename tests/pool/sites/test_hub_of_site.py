"""What a site knows by itself, whatever the hub says."""

from pathlib import Path
from typing import Any

from payouts.rates import BlockFees
from pool.hub import Plan
from pool.sites.hub_of_site import HubOfSite


class HubThatIsAskedNothing:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"it is asked for {name}")


async def test_fees_of_recent_blocks_wait_for_no_hub(tmp_path: Path) -> None:
    """Each list is another price, by a number that is none of the hub's."""
    hub: Any = HubThatIsAskedNothing()
    site = HubOfSite(hub, Plan({}, {}), epoch=lambda: 1, blocks=tmp_path)
    numbers = [
        await site.fee_basis((BlockFees(height=height, hash="00" * 32, fees_sat=5),)) for height in range(3)
    ]
    assert len(set(numbers)) == 3
    assert min(numbers) >= 1 << 32
