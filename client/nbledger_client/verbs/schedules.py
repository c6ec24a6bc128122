"""When notebooks run by themselves: by the clock, and when what they are made of changes."""

from __future__ import annotations

from typing import Any, Unpack

import msgspec

from nbledger_client.core.requests import Call, Repeat, Version, conditions, json_body
from nbledger_client.core.steps import Items
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, verb
from nbledger_client.models.histories import ChangedEntry
from nbledger_client.models.notebook_bodies import (
    AutoExecutionSetting,
    AutoExecutionSettingFields,
    ScheduleSetting,
    ScheduleSettingFields,
)
from nbledger_client.models.notebooks import ChangedNotebook
from nbledger_client.models.schedules import (
    AskedFiring,
    AskedFirings,
    AutomationDocument,
    ScheduleBackfill,
    ScheduleDocument,
    ScheduleItem,
    ScheduleList,
    ScheduleNote,
)
from nbledger_client.verbs.shared import (
    HistoryFields,
    Notebook,
    Time,
    history,
    keyed,
    notebook_path,
)


def _integrated(
    notebook: Notebook, member: str, value: Any, if_match: Version | None
) -> Call[ChangedNotebook]:
    return Call(
        "PUT",
        notebook_path(notebook),
        ChangedNotebook,
        headers=conditions(if_match),
        body=json_body({"integration": {member: value}}),
        repeat=Repeat.FREELY if if_match is None else Repeat.NEVER,
    )


class ScheduleVerbs(Group):
    """Schedules of notebooks."""

    @verb("updateNotebook")
    def set(
        self,
        notebook: Notebook,
        *,
        if_match: Version | None = None,
        **asked: Unpack[ScheduleSettingFields],
    ) -> Call[ChangedNotebook]:
        """Give a notebook a schedule, in the place of the one that it has.

        >>> changed = client.schedules.set(planned, cron="0 6 * * *", time_zone="Europe/Berlin")
        >>> changed.schedule.state
        'active'
        """
        setting = ScheduleSetting(**asked)
        return _integrated(notebook, "scheduleExecution", setting, if_match)

    @verb("updateNotebook")
    def remove(
        self, notebook: Notebook, *, if_match: Version | None = None
    ) -> Call[ChangedNotebook]:
        """Take the schedule away.

        >>> _ = client.schedules.set(planned, cron="0 6 * * *")
        >>> client.schedules.remove(planned).schedule is None
        True
        """
        return _integrated(notebook, "scheduleExecution", None, if_match)

    @listing("listSchedules")
    def list(self, *, page_size: int = 100) -> Items[ScheduleItem]:
        """List the project's schedules. One that was set is in the list a moment later.

        >>> firings = [each.next_firings for each in client.schedules.list()]
        """
        query = {"pageSize": page_size}
        return self._pages("schedules", ScheduleList, lambda found: found.schedules, query)

    @verb("getSchedule")
    def get(self, notebook: Notebook, *, firings: int | None = None) -> Call[ScheduleDocument]:
        """Read a schedule, its next firings, and so many of the last ones.

        >>> _ = client.schedules.set(planned, cron="0 6 * * *")
        >>> len(client.schedules.get(planned).next_firings) > 0
        True
        """
        path, query = notebook_path(notebook, "schedule"), {"firings": firings}
        return Call("GET", path, ScheduleDocument, query, own_writes=True)

    @verb("pauseSchedule")
    def pause(self, notebook: Notebook, note: str | None = None) -> Call[ScheduleDocument]:
        """Pause a schedule.

        >>> _ = client.schedules.set(planned, cron="0 6 * * *")
        >>> client.schedules.pause(planned, "holidays").state
        'paused'
        """
        return self._noted(notebook, "pause", note)

    @verb("resumeSchedule")
    def resume(self, notebook: Notebook, note: str | None = None) -> Call[ScheduleDocument]:
        """Let a paused schedule go on.

        >>> _ = client.schedules.set(planned, cron="0 6 * * *")
        >>> _ = client.schedules.pause(planned)
        >>> client.schedules.resume(planned).state
        'active'
        """
        return self._noted(notebook, "resume", note)

    @verb("runSchedule")
    def run(self, notebook: Notebook, *, idempotency_key: str | None = None) -> Call[AskedFiring]:
        """Run now what the schedule would run.

        >>> _ = client.schedules.set(planned, cron="0 6 * * *")
        >>> client.schedules.run(planned).firing_id is not None
        True
        """
        return Call(
            "POST",
            notebook_path(notebook, "schedule", "run"),
            AskedFiring,
            headers=keyed(idempotency_key),
            repeat=Repeat.BY_KEY,
        )

    @verb("backfillSchedule")
    def backfill(self, notebook: Notebook, from_: Time, to: Time) -> Call[AskedFirings]:
        """Run for times that have passed. What was asked for already is not asked for twice.

        >>> _ = client.schedules.set(planned, cron="0 6 * * *")
        >>> since, until = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
        >>> len(client.schedules.backfill(planned, since, until).firings)
        1
        """
        span = ScheduleBackfill(from_=_text(from_), to=_text(to))
        path = notebook_path(notebook, "schedule", "backfill")
        return Call("POST", path, AskedFirings, body=json_body(span), repeat=Repeat.NEVER)

    @listing("getScheduleHistory")
    def history(self, notebook: Notebook, **asked: Unpack[HistoryFields]) -> Items[ChangedEntry]:
        """Read the events of a notebook's schedules.

        >>> _ = client.schedules.set(planned, cron="0 6 * * *")
        >>> next(client.schedules.history(planned)).type
        'schedule.set.v1'
        """
        return history(self._talk, notebook_path(notebook, "schedule", "history"), asked)

    def _noted(self, notebook: Notebook, verb: str, note: str | None) -> Call[ScheduleDocument]:
        body = ScheduleNote() if note is None else ScheduleNote(note=note)
        path = notebook_path(notebook, "schedule", verb)
        return Call("POST", path, ScheduleDocument, body=json_body(body))


class AutomationVerbs(Group):
    """Notebooks that run when their bound dataset or their cells change."""

    @verb("updateNotebook")
    def set(
        self,
        notebook: Notebook,
        *,
        if_match: Version | None = None,
        **asked: Unpack[AutoExecutionSettingFields],
    ) -> Call[ChangedNotebook]:
        """Let a notebook run by itself.

        >>> client.automations.set(planned, on=["cells"], quiet_seconds=60).automatic.on
        ['cells']
        """
        setting = AutoExecutionSetting(**asked)
        return _integrated(notebook, "autoExecution", setting, if_match)

    @verb("updateNotebook")
    def remove(
        self, notebook: Notebook, *, if_match: Version | None = None
    ) -> Call[ChangedNotebook]:
        """Let it run by itself no more.

        >>> client.automations.remove(planned).integration.auto_execution
        False
        """
        return _integrated(notebook, "autoExecution", value=False, if_match=if_match)

    @verb("getAutomaticExecution")
    def get(self, notebook: Notebook, *, triggers: int | None = None) -> Call[AutomationDocument]:
        """Read when a notebook runs by itself, and so many of the last times that it did.

        >>> _ = client.automations.set(planned, on=["cells"])
        >>> client.automations.get(planned).automatic.on
        ['cells']
        """
        path, query = notebook_path(notebook, "automatic-execution"), {"triggers": triggers}
        return Call("GET", path, AutomationDocument, query, own_writes=True)

    @listing("getAutomaticExecutionHistory")
    def history(self, notebook: Notebook, **asked: Unpack[HistoryFields]) -> Items[ChangedEntry]:
        """Read the events of a notebook's automatic runs.

        >>> list(client.automations.history(planned))
        []
        """
        path = notebook_path(notebook, "automatic-execution", "history")
        return history(self._talk, path, asked)


def _text(time: Time) -> str:
    return time if isinstance(time, str) else str(msgspec.to_builtins(time))


class Schedules(ScheduleVerbs, BlockingGroup):
    """Schedules of notebooks."""


class AsyncSchedules(ScheduleVerbs, AwaitingGroup):
    """Schedules of notebooks, awaited."""


class Automations(AutomationVerbs, BlockingGroup):
    """Notebooks that run when their bound dataset or their cells change."""


class AsyncAutomations(AutomationVerbs, AwaitingGroup):
    """Notebooks that run when their bound dataset or their cells change, awaited."""
