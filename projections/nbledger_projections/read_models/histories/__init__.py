"""Histories: events as auditors and followers read them, and what each has changed."""
