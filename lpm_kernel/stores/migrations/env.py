"""Run by Alembic: one connection, handed over by `stores/tables.py`."""

from alembic import context

from lpm_kernel.stores.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
