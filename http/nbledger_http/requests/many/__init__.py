"""Which executions are meant, where there may be many."""
