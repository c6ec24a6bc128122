"""What every read model is built on: the runner, rows, documents, fresh reads."""
