"""What a database that cannot be used is told with. `pool.books.store` hands it on to everybody else."""


class StoreError(Exception):
    """A database that cannot be used, and why, in words for the operator."""
