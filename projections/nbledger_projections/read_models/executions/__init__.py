"""Executions as the API shows them: their status, their results."""
