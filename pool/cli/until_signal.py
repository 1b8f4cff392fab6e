"""A command that runs on: until its job ends, or somebody asks it to stop.

Must not know: what the job is.
"""

import signal
from collections.abc import Awaitable, Callable

from pool.short_start import begun


def until_signal(job: Callable[[], Awaitable[None]]) -> None:
    """Until the job ends or a signal comes."""
    import structlog
    import trio

    from pool.cli.logs import set_up_logs

    async def stop_on_signal(scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                structlog.get_logger().info("stopping", signal=signal.Signals(number).name)
                scope.cancel()
                return

    async def run_job() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_on_signal, nursery.cancel_scope)
            await job()
            nursery.cancel_scope.cancel()

    set_up_logs()
    begun()
    trio.run(run_job)
