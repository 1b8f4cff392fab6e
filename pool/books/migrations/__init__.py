"""How a database gets from one version of the schema to the next (Alembic); applied by `pool.books.store`."""
