"""Histories: what an event has changed of its aggregate, and who has read them."""

from nbledger_domain.histories.differences import (
    Changes as Changes,
)
from nbledger_domain.histories.differences import (
    FieldChange as FieldChange,
)
from nbledger_domain.histories.differences import (
    differences as differences,
)
from nbledger_domain.histories.reads import (
    HistoryKind as HistoryKind,
)
from nbledger_domain.histories.reads import (
    HistoryRead as HistoryRead,
)
from nbledger_domain.histories.reads import (
    Manner as Manner,
)
from nbledger_domain.histories.reads import (
    ReadKey as ReadKey,
)
from nbledger_domain.histories.states import State as State
from nbledger_domain.histories.states import state_of as state_of
