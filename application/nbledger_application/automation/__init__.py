"""Automatic execution: what is kept of changes, what becomes of them, and what is appended."""
