"""`angara run` with the books' times of a site, also on regtest, where they are those of a rehearsal.

But the hour that is not over is settled too, after each fold: no run lasts an hour.
"""

import pool.config
from pool.books.bookkeeper import BookTimes
from pool.cli.main import main

if __name__ == "__main__":
    setattr(pool.config, "IMPATIENT", BookTimes(settle_early_s=3660))  # noqa: B010  # it is Final
    main()
