"""Alembic's entry: applies the migrations on the connection that `pool.store` hands over.

All of an upgrade is one transaction on both databases, so that a kill leaves the old version.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
