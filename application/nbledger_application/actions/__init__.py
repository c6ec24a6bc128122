"""Carrying out what is to be done to many executions at once."""
