"""A document has every name that its bytes were sent under: the first in `filename`, the others in `also_named`."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("alter table document add column also_named text[] not null default '{}'")


def downgrade() -> None:
    op.execute("alter table document drop column also_named")
