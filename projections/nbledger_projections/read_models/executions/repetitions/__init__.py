"""Executions that repeat others: their links and chains, and what is otherwise in one of two."""
