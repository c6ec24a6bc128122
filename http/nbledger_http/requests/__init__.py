"""Requests as they are read: bodies, forms, queries, conditions, and what a handler has at hand."""
