"""The whole pool in a world of its own, which one number decides: a seed plays the same each time.

The pool is production code (`pool.main.Pool` and all that it wires). Around it are things that break: a disk
that tears and lies, books that are away, nodes that are cut off, a network that is late, miners that solve
real shares at tiny difficulties and keep a list of what was acknowledged. In the end an auditor, who uses
nothing of the pool's own accounting, compares those lists with the books.

    python -m tests.simulation --seeds 1000        # how many of them were clean
    python -m tests.simulation --seed 17 --trace   # one of them again, with what happened

`--sites`, `--routes` and `--money` play worlds that are other ones alone: of several sites, of routes without
books, of books and payouts without machines.
"""
