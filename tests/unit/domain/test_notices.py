"""Notices: their ids follow from what is told, so that it is told once."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from support.aggregates import AT

from nbledger_domain.notices import (
    KernelNotice,
    kernel_notice_id,
    run_notice_id,
    schedule_notice_id,
)
from nbledger_infrastructure.kafka.cloudevents import event_headers, subject_kind
from nbledger_infrastructure.postgres.event_store import Metadata, RecordedEvent

ONE, OTHER = uuid4(), uuid4()


def test_the_same_has_the_same_id_and_nothing_else_has() -> None:
    made = [
        run_notice_id(ONE),
        run_notice_id(OTHER),
        schedule_notice_id(ONE, OTHER),
        schedule_notice_id(OTHER, ONE),
        schedule_notice_id(ONE, ONE),
        kernel_notice_id(ONE, OTHER, "r"),
        kernel_notice_id(OTHER, ONE, "r"),
        kernel_notice_id(ONE, OTHER, "python3"),
    ]
    assert len(set(made)) == len(made)
    assert run_notice_id(ONE) == made[0]
    assert kernel_notice_id(ONE, OTHER, "r") == made[5]


def test_ids_are_the_same_in_every_version() -> None:
    one = UUID("bb0e8400-e29b-41d4-a716-446655440000")
    assert str(run_notice_id(one)) == "9b639c8d-3e7c-5ec1-877d-52fd5fa4ceec"


def test_an_outage_begins_and_ends_in_turn() -> None:
    notice_id = kernel_notice_id(ONE, OTHER, "r")
    notice = None
    for version, missing in enumerate((True, False, True), 1):
        common = {
            "originator_id": notice_id,
            "originator_version": version,
            "timestamp": AT,
            "kernel_type": "r",
            "since": datetime(2024, 1, 1, tzinfo=UTC),
        }
        event: KernelNotice.Event = (
            KernelNotice.Unavailable(**common, waiting=1, waiting_since=AT)  # type: ignore[arg-type]
            if missing
            else KernelNotice.Available(**common, reason="worker_alive")  # type: ignore[arg-type]
        )
        notice = event.mutate(notice)
        assert isinstance(notice, KernelNotice)
        assert (notice.missing, notice.version) == (missing, version)


def test_what_they_concern() -> None:
    told = dict(
        event_headers(
            RecordedEvent(
                *(7, ONE, 1, OTHER, "notice.kernel-unavailable.v1", ONE, ONE, OTHER, b"{}"),
                *(Metadata(actor="notices"), AT, AT, b"", b"", "notice.kernel-unavailable.v1"),
            ),
            address="",
        )
    )
    assert told["ce_noticeid"] == told["ce_subject"] == str(ONE).encode()
    assert told["ce_source"] == f"/api/{ONE}/{OTHER}/notice/{ONE}".encode()
    assert told["ce_type"] == b"nbledger.notice.kernel-unavailable.v1"
    assert subject_kind("notice.run-slow.v1") == "notebook"
    assert subject_kind("notice.schedule-failing.v1") == "notebook"
    assert subject_kind("notice.automation-failing.v1") == "notebook"
    assert subject_kind("notice.kernel-unavailable.v1") == "notice"
    assert subject_kind("notice.kernel-available.v1") == "notice"
