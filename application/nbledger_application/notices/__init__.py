"""Notices: what the service tells by itself of runs, schedules and kernel types."""
