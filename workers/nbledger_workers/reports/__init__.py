"""The report of a run: HTML that loads nothing, and PDF."""
