"""Schedules: the scheduler, what it keeps, and what it appends."""
