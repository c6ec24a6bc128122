"""Histories: what an event has changed of its aggregate, and who has read them."""

from nbledger_domain.histories.differences import (
    ChangeKind as ChangeKind,
    Changes as Changes,
    FieldChange as FieldChange,
    Shortened as Shortened,
    differences as differences,
)
from nbledger_domain.histories.reads import (
    HistoryKind as HistoryKind,
    HistoryRead as HistoryRead,
    Manner as Manner,
    read_id_of as read_id_of,
)
from nbledger_domain.histories.states import State as State, state_of as state_of
