"""Alembic's entry: runs the migrations on the connection that ``schema.py`` hands over, in its transaction.

To write the next revision, add ``versions/v000N_what.py`` by hand and its id to ``REVISIONS`` in ``schema.py``; a test
compares the migrated database with the models.
"""

from alembic import context

from rolegen_agent.memory.models import Base
from rolegen_agent.memory.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
