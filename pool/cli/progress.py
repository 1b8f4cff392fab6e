"""How far long work is: a bar on a terminal, on standard error, that is gone when the work is done. Into a
pipe nothing.

Must not know: what the work is.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pool.short_start import wanted


@contextmanager
def progress(words: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Tell what is yielded how much is done, of the total; without one, and where all of it is done and the
    work is not, the bar says only that it goes on."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    wanted("rich")
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(words, total=total)
        yield lambda done: bar.update(
            task, completed=done, total=None if total is None or done >= total else total
        )
