"""Processes of a run: forked, kept apart, found and ended."""
