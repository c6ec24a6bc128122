"""Runs and versions of datasets as OpenLineage 2-0-2 tells them."""
