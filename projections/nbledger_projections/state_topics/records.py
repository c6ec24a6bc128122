"""The records of state topics: a document with its headers, or that there is none any more."""

from nbledger_infrastructure.kafka.clients import state_topic
from nbledger_infrastructure.kafka.cloudevents import StateRecord, state_headers
from nbledger_infrastructure.kafka.messages import MAX_DATA_BYTES, Message
from nbledger_infrastructure.kafka.structured import structured
from nbledger_infrastructure.settings import Settings
from nbledger_projections.state_topics.changes import Changed
from nbledger_projections.state_topics.states import Found, StateKind


class Records:
    """Makes the records of this service."""

    def __init__(self, settings: Settings) -> None:
        self._kafka = settings.kafka
        self._address = settings.http.address

    def document(self, kind: StateKind, found: Found) -> Message:
        """The record of a document; one that it cannot carry is named in the value instead."""
        value = None if found.text is None else kind.document(found.text)
        dataref = value is None or len(value) > MAX_DATA_BYTES
        return self._record(kind, _state(kind, found, dataref=dataref), value)

    def deletion(self, kind: StateKind, gone: Changed) -> Message:
        """The record that a document is deleted, which has no value."""
        return self._record(kind, _state(kind, gone, deleted=True), None)

    def _record(self, kind: StateKind, state: StateRecord, value: bytes | None) -> Message:
        headers = state_headers(state, address=self._address)
        if state.dataref:
            # Without a value the record would say that the document is deleted.
            value = structured(headers, None)
        topic = state_topic(self._kafka, kind.topic)
        return Message(topic, str(state.id).encode(), value, headers)


def _state(
    kind: StateKind, of: Found | Changed, *, deleted: bool = False, dataref: bool = False
) -> StateRecord:
    return StateRecord(
        type=kind.type,
        id=of.id,
        tenant_id=of.tenant_id,
        project_id=of.project_id,
        subject_id=of.subject_id,
        subject_kind=kind.subject_kind,
        path=kind.path(of.tenant_id, of.project_id, of.subject_id, of.id),
        position=of.position,
        at=of.at,
        deleted=deleted,
        dataref=dataref,
    )
