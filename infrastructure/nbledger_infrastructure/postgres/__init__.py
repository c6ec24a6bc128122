"""PostgreSQL: connections, migrations, the event store, and what else is kept there."""
