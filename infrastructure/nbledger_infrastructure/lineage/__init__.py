"""Telling lineage: what becomes of runs and datasets, to one receiver of OpenLineage."""
