"""Small measures of a process, from an event log in a frame of pandas or polars.

A log has one row per event. Its columns are called ``case_id``, ``activity`` and ``timestamp``, or
as in XES ``case:concept:name``, ``concept:name`` and ``time:timestamp``; other names are given with
``case``, ``activity`` and ``timestamp``. Events of a case are taken in the order of their times,
and those of one time in the order of the log. An event has one time: its end, where it lasted.

Every function answers with a frame of the kind that it was given. Times are in hours.
"""

from process_mining_utils.measures import (
    bottlenecks,
    cycle_times,
    directly_follows_graph,
    rework,
    variants,
)

__all__ = ["bottlenecks", "cycle_times", "directly_follows_graph", "rework", "variants"]
