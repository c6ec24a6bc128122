"""Requests to addresses that users name: what may be reached, and within which bounds."""
