"""Which event an erasure follows from: data that is missing without such an event was taken away.

The rule needs nothing but envelopes, which an erasure leaves as they are: an event's data may be
missing if, and only if, the stream that is the event's subject says that it was deleted.
"""

from typing import Final

from nbledger_domain.dataset import Dataset
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.library import Library
from nbledger_domain.notebook import Notebook
from nbledger_domain.webhook import Webhook

DELETIONS: Final[frozenset[str]] = frozenset(
    name
    for event in (Notebook.Deleted, Dataset.Deleted, Library.Deleted, Webhook.Deleted)
    for name in EVENT_TYPES.stored_names(event.TYPE)
)
"""The types of the events that delete a subject where their stream is the subject.

In every version that was ever stored.
"""

ENDINGS: Final[frozenset[str]] = DELETIONS.union(
    EVENT_TYPES.stored_names(Notebook.DeletionRequested.TYPE)
)
"""The types of the events by which a subject is no longer there for anybody, in its own stream.

Of these the first tells who asked for it; the data goes with one of :data:`DELETIONS` alone.
"""
