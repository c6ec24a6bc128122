"""Limits of a run, and what it uses."""
