"""Notebooks as the API shows them: one by one, and in lists."""
