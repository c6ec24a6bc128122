"""Words for outputs of cells."""

OUTPUT_TYPES = frozenset({"stream", "display_data", "execute_result", "error"})
"""The ``output_type`` that nbformat knows; the kernels' messages of outputs have the same."""

TEXT_OUTPUTS = frozenset({"stream", "error"})
"""Outputs that are text and have one form; no later cell can change them."""

TABLE_MEMBER = "dataFrame"
"""Member of the metadata of an output that is a table: the worker has looked into it."""
