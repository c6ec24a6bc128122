"""Schedules: their settings, their states, and what becomes of what is due."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbledger_domain import events
from nbledger_domain.errors import ScheduleNotFoundError
from nbledger_domain.execution import REQUESTED_CAUSE, Cause, Execution, RunOptions
from nbledger_domain.schedule import (
    CronError,
    Firing,
    FiringOutcome,
    Schedule,
    ScheduleSettings,
    ScheduleState,
    execution_id_of,
    firing_id_of,
    schedule_id_of,
)
from nbledger_domain.schedule.deciding import Decision, Standing, decide

AT = datetime(2026, 1, 1, tzinfo=UTC)
SCHEDULE = schedule_id_of(UUID(int=1))
MINUTE = timedelta(minutes=1)


def settings(**members: Any) -> ScheduleSettings:
    return ScheduleSettings(**{"cron": "* * * * *", **members})


def outcomes(found: list[Decision]) -> list[tuple[str, str | None]]:
    return [(each.outcome.value, each.reason) for each in found]


def test_a_text_may_begin_with_its_zone() -> None:
    found = ScheduleSettings.of("CRON_TZ=Europe/Berlin 0 2 * * *")
    assert (found.cron, found.time_zone) == ("0 2 * * *", "Europe/Berlin")
    assert ScheduleSettings.of("@daily") == settings(cron="@daily")
    again = ScheduleSettings.of(settings(cron="CRON_TZ=Asia/Tokyo @daily", overlap="allow"))
    assert again == settings(cron="@daily", time_zone="Asia/Tokyo", overlap="allow")
    with pytest.raises(CronError, match="hour"):
        ScheduleSettings.of("0 25 * * *")


def test_every_fault_has_its_member() -> None:
    wrong = settings(cron="x", time_zone="Mars/Olympus", start=AT.replace(tzinfo=None))
    assert [fault.pointer for fault in wrong.faults()] == ["/cron", "/timeZone", "/start"]
    assert [fault.pointer for fault in settings(start=AT, end=AT - MINUTE).faults()] == ["/end"]
    both = settings(cron="CRON_TZ=Asia/Tokyo @daily", time_zone="Europe/Berlin")
    assert [fault.pointer for fault in both.faults()] == ["/timeZone"]


def test_it_is_due_from_start_to_end_both_included() -> None:
    bounded = settings(start=AT + 3 * MINUTE, end=AT + 5 * MINUTE)
    assert bounded.upcoming(AT, count=9) == [AT + number * MINUTE for number in (3, 4, 5)]
    assert bounded.upcoming(AT, count=9, through=AT + 4 * MINUTE)[-1] == AT + 4 * MINUTE


def test_ids_are_the_same_for_whoever_asks() -> None:
    elsewhere = AT.astimezone(tz=None)
    assert firing_id_of(SCHEDULE, AT) == firing_id_of(SCHEDULE, elsewhere)
    assert firing_id_of(SCHEDULE, AT) == UUID("4f83dde3-8e67-5a5b-888c-f817db73d271")
    assert execution_id_of(firing_id_of(SCHEDULE, AT)) != firing_id_of(SCHEDULE, AT)


def test_what_is_due_starts_and_overlaps_as_the_policy_says() -> None:
    now = AT + 3 * MINUTE
    expected = {
        "allow": [("started", None)] * 3,
        "skip": [("started", None), ("skipped", "overlap"), ("skipped", "overlap")],
        "queueOne": [("started", None), ("queued", None), ("skipped", "queue_full")],
        "queueAll": [("started", None), ("queued", None), ("queued", None)],
        "cancelPrevious": [("started", None), ("queued", None), ("queued", None)],
    }
    for overlap, wanted in expected.items():
        standing = Standing(cursor=AT)
        found = decide(SCHEDULE, settings(overlap=overlap), standing, now, most=9)
        assert outcomes(found) == wanted, overlap
        assert [each.due_at for each in found] == [AT + number * MINUTE for number in (1, 2, 3)]
        assert standing.cursor == now
        assert decide(SCHEDULE, settings(overlap=overlap), standing, now, most=9) == []


def test_what_is_too_late_is_missed_in_one_and_what_was_paused_skipped_in_one() -> None:
    now = AT + timedelta(days=365)
    standing = Standing(cursor=AT, skip_through=AT + 10 * MINUTE + timedelta(seconds=5))
    found = decide(SCHEDULE, settings(overlap="allow"), standing, now, most=100)
    skipped, missed, *rest = found
    assert (skipped.outcome, skipped.reason, skipped.count) == (FiringOutcome.SKIPPED, "paused", 10)
    assert skipped.through == standing.skip_through
    # Half a million of them are not counted one by one.
    assert (missed.outcome, missed.count) == (FiringOutcome.MISSED, None)
    assert missed.due_at == AT + 11 * MINUTE
    assert missed.through == now - timedelta(hours=1)
    assert [each.due_at for each in rest] == [
        now - timedelta(hours=1) + number * MINUTE for number in range(1, 61)
    ]
    (alone,) = decide(
        SCHEDULE, settings(cron="@daily"), Standing(cursor=AT), AT + timedelta(days=1.5), most=9
    )
    assert (alone.outcome, alone.through, alone.count) == (FiringOutcome.MISSED, None, None)


def test_no_more_run_than_it_allows() -> None:
    standing = Standing(cursor=AT, runs=3)
    bounded = settings(overlap="allow", max_runs=5)
    assert len(decide(SCHEDULE, bounded, standing, AT + timedelta(minutes=9), most=20)) == 2
    assert standing.runs == 5


def test_jitter_is_the_same_each_time_and_within_its_bound() -> None:
    shaken = settings(jitter_seconds=30)
    late = [
        shaken.fires_at(firing_id_of(SCHEDULE, due), due) - due
        for due in shaken.upcoming(AT, count=50)
    ]
    assert late == [
        shaken.fires_at(firing_id_of(SCHEDULE, due), due) - due
        for due in shaken.upcoming(AT, count=50)
    ]
    assert len(set(late)) > 25
    assert all(timedelta(0) <= each <= timedelta(seconds=30) for each in late)
    due = AT + MINUTE
    before = shaken.fires_at(firing_id_of(SCHEDULE, due), due) - timedelta(milliseconds=1)
    assert decide(SCHEDULE, shaken, Standing(cursor=AT), before, most=9) == []


@given(
    st.lists(st.integers(-600, 900), min_size=1, max_size=30),
    st.sampled_from(["skip", "allow", "queueAll"]),
)
def test_whatever_the_clock_does_every_time_is_dealt_with_once(
    steps: list[int], overlap: str
) -> None:
    standing = Standing(cursor=AT)
    now, latest = AT, AT
    told: list[datetime] = []
    for step in steps:
        now += timedelta(seconds=step)
        latest = max(latest, now)
        told += [
            each.due_at
            for each in decide(SCHEDULE, settings(overlap=overlap), standing, now, most=1000)
        ]
    assert told == settings().upcoming(AT, count=10_000, through=latest)


def test_a_schedule_changes_its_state() -> None:
    notebook_id = uuid4()
    schedule = Schedule.create(
        schedule_id_of(notebook_id),
        notebook_id=notebook_id,
        settings=settings(),
        set_by="ada",
        at=AT,
    )
    schedule.change(settings(), set_by="bob", at=AT)
    schedule.resume(at=AT)
    assert schedule.version == 1
    schedule.pause("failures", failures=3, at=AT)
    schedule.pause("requested", at=AT)
    assert (schedule.state, schedule.pause_reason) == (ScheduleState.PAUSED, "failures")
    schedule.change(settings(cron="@daily"), set_by="bob", at=AT)
    assert (schedule.state, schedule.set_by) == (ScheduleState.PAUSED, "bob")
    schedule.resume(at=AT)
    schedule.end("end", at=AT)
    states = [schedule.state]
    schedule.remove(at=AT)
    schedule.remove(at=AT)
    with pytest.raises(ScheduleNotFoundError):
        schedule.pause("requested", at=AT)
    schedule.change(settings(cron="@daily"), set_by="bob", at=AT)
    assert [*states, schedule.state] == [ScheduleState.ENDED, ScheduleState.ACTIVE]
    assert [type(each).__name__ for each in schedule.collect_events()] == [
        "Set",
        "Paused",
        "Changed",
        "Resumed",
        "Ended",
        "Removed",
        "Changed",
    ]


def test_any_event_of_a_firing_can_come_first() -> None:
    firing_id = firing_id_of(SCHEDULE, AT)
    common: dict[str, Any] = {
        "originator_id": firing_id,
        "timestamp": AT,
        "schedule_id": SCHEDULE,
        "due_at": AT,
        "trigger": "due",
    }
    missed = Firing.Missed(**common, originator_version=1, reason="catch_up")
    firing = missed.mutate(None)
    assert isinstance(firing, Firing)
    assert (firing.id, firing.version, firing.outcome) == (firing_id, 1, FiringOutcome.MISSED)
    started = Firing.Started(
        **common, originator_version=2, execution_id=uuid4(), notebook_stream_version=1
    )
    again = started.mutate(firing)
    assert again is firing
    assert firing.started
    assert firing.version == 2


def test_a_run_says_its_cause_and_one_of_before_was_asked_for() -> None:
    def request(cause: Cause | None) -> Execution:
        return Execution.request(
            UUID(int=2),
            notebook_id=UUID(int=1),
            notebook_version="1.0.0",
            notebook_stream_version=1,
            kernel_type="python3",
            cells=[],
            parameters={},
            options=RunOptions(timeout=1),
            requested_by="ada",
            at=AT,
            cause=cause,
        )

    assert request(None).cause == REQUESTED_CAUSE
    cause = Cause(
        kind="schedule",
        schedule_id=SCHEDULE,
        firing_id=firing_id_of(SCHEDULE, AT),
        due_at=AT,
        trigger="due",
    )
    data = b""
    for each in (None, cause):
        (event,) = request(each).collect_events()
        assert isinstance(event, Execution.Requested)
        data = events.encode(event)
        assert (b'"cause"' in data) == (each is not None)
        again = events.decode(event.TYPE, data, stream_id=UUID(int=2), version=1, occurred_at=AT)
        assert again == event
    assert b'"cause":{"kind":"schedule","scheduleId":' in data
