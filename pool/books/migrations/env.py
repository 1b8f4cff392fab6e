"""Alembic's entry: applies the migrations on the connection that `pool.books.store` hands over.

The connection is in a transaction already, and DDL is transactional on both databases: all of an upgrade
happens or, when it is killed, nothing of it.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
