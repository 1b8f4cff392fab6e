"""Work of our own: from a template to what the pool's and its solo tenants' machines mine, and at what price.

Every template goes at once to everybody who mines our own work, whomever the blocks of it pay. A tenant that
is a solo tenant now, or has another address or fee, is so in its next job, which is made at once. Nobody
mines for FPPS while it has no price.

Must not know: nodes, blocks that were found, upstreams.
"""

import secrets
from functools import partial

import msgspec
import structlog
import trio

from payouts.rates import Scheme, subsidy_sat
from pool.books.book import WrongBook
from pool.books.journal.prices import Prices
from pool.books.journal.rate_epochs import WorkPrice
from pool.chain.coinbase import SALT_BYTES_MAX, BadCoinbase
from pool.chain.fee_watch import NO_BASIS, FeeWatch
from pool.chain.networks import NETWORKS
from pool.chain.templates import Template, branch_of, work_from_template
from pool.config import PoolConfig
from pool.fleet.registry import Registry
from pool.hub import Hub
from pool.routing.admission import Admission
from pool.routing.placement import Placement
from pool.routing.solo import SoloChannels, WorkOn
from stratum.miners.channel import Channel
from stratum.miners.switchboard import Switchboard

log = structlog.get_logger()


def maker_of_work(config: PoolConfig, own: Channel) -> WorkOn:
    """Work on a template, whose coinbase has our tag and room for our miners' extranonces."""
    return partial(
        work_from_template,
        tag=config.tag,
        salts=partial(secrets.token_bytes, SALT_BYTES_MAX),
        extranonce_size=own.extranonce_size,
    )


class OwnWork:
    """`price` is that of the last work, with its height; None before there was any."""

    def __init__(
        self,
        config: PoolConfig,
        registry: Registry,
        hub: Hub,
        prices: Prices,
        fees: FeeWatch,
        *,
        admission: Admission,
        placement: Placement,
        solo: SoloChannels,
        board: Switchboard,
        work_on: WorkOn,
    ) -> None:
        self.price: tuple[WorkPrice, int] | None = None
        self._payout_script = config.payout_script
        self._halving = NETWORKS[config.network].halving_interval
        self._registry = registry
        self._hub, self._prices = hub, prices
        self._fees = fees
        self._admission = admission
        self._placement = placement
        self._solo = solo
        self._board = board
        self._work_on = work_on
        self._mined: tuple[Template, tuple[bytes, ...]] | None = None  # the last one, and its branch
        self._solo_changed = trio.Event()

    async def run(self, fresh: trio.MemoryReceiveChannel[Template]) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish, fresh)
            nursery.start_soon(self._publish_changed)
            await self._fees.known()
            self.price_fpps()

    def terms_changed(self) -> None:
        """A tenant is another one than before, or has other terms."""
        self._prices.terms_changed()
        self._fees.ask_again()
        if self._solo.follow():
            self._solo_changed.set()
        self.price_fpps()

    def price_fpps(self) -> None:
        """Let nobody mine for FPPS while it has no price."""
        if self._fees.basis is not None:
            self._admission.fpps_closed = None
        elif self._registry.pays_by_fees():
            self._admission.fpps_closed = NO_BASIS
            for tenant in self._registry.tenants.values():
                if tenant.scheme is Scheme.FPPS:
                    self._board.drop_workers(self._registry.numbers_of(tenant.id), NO_BASIS)

    async def _publish(self, fresh: trio.MemoryReceiveChannel[Template]) -> None:
        async for template in fresh:
            branch, value_sat = branch_of(template), template.coinbase_value_sat
            try:
                if template.signet_challenge is not None:
                    await self._hub.bind_signet(template.signet_challenge)
                payouts = ((self._payout_script, value_sat),)
                work = self._work_on(template, payouts=payouts, branch=branch)
            except (BadCoinbase, WrongBook) as error:
                log.error("template_unusable", height=template.height, reason=str(error))
                continue
            await self._fees.first()
            self.price_fpps()
            price = self._price_of(template)
            epoch = self._prices.epoch(price, template.height)
            solo_epoch = self._solo_epoch(template)
            self.price, self._mined = (price, template.height), (template, branch)
            self._board.distribution.publish(self._admission.own, work, rate=epoch)
            if solo_epoch:
                self._solo.publish(template, branch, rate=solo_epoch)
            log.debug("job_published", height=template.height, transactions=len(template.transactions))

    async def _publish_changed(self) -> None:
        while True:
            await self._solo_changed.wait()
            self._solo_changed = trio.Event()
            mined = self._mined
            if mined is None:
                continue
            self._solo.publish_changed(*mined, rate=self._solo_epoch(mined[0]))
            self._placement.reconsider()

    def _price_of(self, template: Template) -> WorkPrice:
        return WorkPrice(
            nbits=template.nbits,
            subsidy_sat=subsidy_sat(template.height, self._halving),
            fee_basis_id=self._fees.basis,
        )

    def _solo_epoch(self, template: Template) -> int:
        """One for all solo tenants: whose a share is is its worker's to say. 0 where there are none."""
        if not self._solo.channels:
            return 0
        price = msgspec.structs.replace(self._price_of(template), fee_basis_id=None, solo=True)
        return self._prices.epoch(price, template.height)
