"""Executions: asked for, awaited, followed, cancelled, run again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final, Unpack

from nbledger_client.core import downloading
from nbledger_client.core.conversation import read_as
from nbledger_client.core.repeating import Retries
from nbledger_client.core.requests import Call, Id, Repeat, Version, conditions, json_body
from nbledger_client.core.steps import Item, Items, Steps
from nbledger_client.core.streams import followed
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, procedure, verb
from nbledger_client.errors import NotEndedError
from nbledger_client.models.comparisons import ChainDocument, ChangesDocument
from nbledger_client.models.execution_bodies import (
    ExecuteNotebook,
    ExecuteNotebookFields,
    RepairExecution,
    RepairExecutionFields,
    RerunExecution,
    RerunExecutionFields,
)
from nbledger_client.models.executions import (
    ExecutionDocument,
    ExecutionItem,
    ExecutionListDocument,
    NewExecution,
    ProjectExecutions,
    RunPlanDocument,
)
from nbledger_client.models.histories import ChangedEntry, HistoryEntry
from nbledger_client.models.provenance import Provenance
from nbledger_client.verbs.shared import (
    Execution,
    HistoryFields,
    Notebook,
    Time,
    execution_path,
    history,
    keyed,
    notebook_path,
)

RUNNING: Final = "Running"
WAIT_SECONDS: Final = 30
"""How long one request waits for the end of a run."""


class ExecutionVerbs(Group):
    """Executions of notebooks.

    An execution is named by what was read of it, or by the ids of its notebook and of itself.
    """

    @verb("executeNotebook")
    def run(
        self,
        notebook: Notebook,
        *,
        if_match: Version | None = None,
        idempotency_key: str | None = None,
        **asked: Unpack[ExecuteNotebookFields],
    ) -> Call[NewExecution]:
        """Ask for a run, which is under way when this returns.

        >>> asked = client.executions.run(notebook, parameters={"limit": 2}, timeout=60)
        >>> client.executions.wait(asked).status
        'Completed'
        """
        return Call(
            "POST",
            notebook_path(notebook, "execute"),
            NewExecution,
            headers={**conditions(if_match), **keyed(idempotency_key)},
            body=json_body(ExecuteNotebook(**asked)),
            repeat=Repeat.BY_KEY,
        )

    @verb("executeNotebook")
    def plan(
        self,
        notebook: Notebook,
        *,
        if_match: Version | None = None,
        **asked: Unpack[ExecuteNotebookFields],
    ) -> Call[RunPlanDocument]:
        """Check a run as if it were asked for, and run nothing.

        >>> client.executions.plan(notebook, parameters={"limt": 2}).warnings
        ["/parameters/limt: the cell tagged 'parameters' does not set it; did you mean limit?"]
        """
        asked["dry_run"] = True
        path = notebook_path(notebook, "execute")
        body = json_body(ExecuteNotebook(**asked))
        return Call("POST", path, RunPlanDocument, headers=conditions(if_match), body=body)

    @verb("getExecution")
    def get(
        self, execution: Execution, *, as_of: Time | int | None = None, wait: int = 0
    ) -> Call[ExecutionDocument]:
        """Read an execution; with ``wait`` the server waits for its end, up to so many seconds.

        >>> client.executions.get(run).termination_code
        'success'
        """
        path = execution_path(execution)
        return Call("GET", path, ExecutionDocument, {"asOf": as_of}, wait=wait)

    @procedure("getExecution")
    def wait(
        self, execution: Execution, *, timeout: float | None = None
    ) -> Steps[ExecutionDocument]:
        """Wait for the end of an execution, for ever or for ``timeout`` seconds.

        Raises :class:`~nbledger_client.errors.NotEndedError`, with the execution as it is then.

        >>> client.executions.wait(run).status
        'Completed'
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        path = execution_path(execution)
        while True:
            left = WAIT_SECONDS if deadline is None else max(deadline - time.monotonic(), 0)
            # Whole seconds are granted; the last part of one is asked for as one.
            wait = min(WAIT_SECONDS, -int(-left // 1))
            found = yield from self._talk.ask(Call("GET", path, ExecutionDocument, wait=wait))
            if found.status != RUNNING:
                return found
            if deadline is not None and time.monotonic() >= deadline:
                raise NotEndedError(found, timeout or 0.0)

    @listing("followExecution")
    def follow(self, execution: Execution, *, after: int = 0) -> Items[HistoryEntry]:
        """Follow an execution: each event as it happens, up to the last, across lost connections.

        ``after`` is the position of the last event that is known already.

        >>> [each.type for each in client.executions.follow(run)][-1]
        'execution.completed.v1'
        """
        call = Call("GET", execution_path(execution, "events"), bytes)
        return followed(self._talk, call, _entry, after=after)

    @listing("listExecutions")
    def list(self, notebook: Notebook, *, page_size: int = 100) -> Items[ExecutionItem]:
        """List the executions of a notebook, newest first.

        >>> run.execution_id in [each.execution_id for each in client.executions.list(notebook)]
        True
        """
        path = notebook_path(notebook, "executions")
        query = {"pageSize": page_size}
        return self._pages(path, ExecutionListDocument, lambda found: found.executions, query)

    @listing("listProjectExecutions")
    def search(
        self, filter: str | None = None, *, sort: str | None = None, page_size: int = 100
    ) -> Items[ExecutionItem]:
        """List those executions of the project that a filter lets through.

        >>> found = client.executions.search('status = Completed AND tag:nightly')
        >>> run.execution_id in [each.execution_id for each in found]
        True
        """
        query: dict[str, Any] = {"filter": filter, "sort": sort, "pageSize": page_size}
        while True:
            call = Call("GET", "executions", ProjectExecutions, query, own_writes=True)
            found = yield from self._talk.ask(call)
            for each in found.executions:
                yield Item(each)
            if found.next is None:
                return
            query["cursor"] = found.next

    @verb("cancelExecution")
    def cancel(self, execution: Execution) -> Call[ExecutionDocument]:
        """Ask for the end of a run; it ends soon after.

        >>> asked = client.executions.run(slow)
        >>> _ = client.executions.cancel(asked)
        >>> client.executions.wait(asked).status
        'Cancelled'
        """
        return Call("POST", execution_path(execution, "cancel"), ExecutionDocument)

    @verb("rerunExecution")
    def rerun(
        self,
        execution: Execution,
        *,
        idempotency_key: str | None = None,
        **asked: Unpack[RerunExecutionFields],
    ) -> Call[NewExecution]:
        """Run once more, exactly as before but for what is named.

        >>> client.executions.rerun(run, parameters={"limit": 3}).cause.kind
        'rerun'
        """
        return Call(
            "POST",
            execution_path(execution, "rerun"),
            NewExecution,
            headers=keyed(idempotency_key),
            body=json_body(RerunExecution(**asked)),
            repeat=Repeat.BY_KEY,
        )

    @verb("rerunExecution")
    def plan_rerun(
        self, execution: Execution, **asked: Unpack[RerunExecutionFields]
    ) -> Call[RunPlanDocument]:
        """Check a rerun as if it were asked for, and run nothing.

        >>> client.executions.plan_rerun(run, parameters={"limit": 3}).parameters
        {'limit': 3}
        """
        asked["dry_run"] = True
        path = execution_path(execution, "rerun")
        return Call("POST", path, RunPlanDocument, body=json_body(RerunExecution(**asked)))

    @verb("repairExecution")
    def repair(
        self,
        execution: Execution,
        *,
        idempotency_key: str | None = None,
        **asked: Unpack[RepairExecutionFields],
    ) -> Call[NewExecution]:
        """Run a failed execution again, with what there is now.

        >>> client.executions.repair(failed, cells="fromFailed").cause.kind
        'repair'
        """
        return Call(
            "POST",
            execution_path(execution, "repair"),
            NewExecution,
            headers=keyed(idempotency_key),
            body=json_body(RepairExecution(**asked)),
            repeat=Repeat.BY_KEY,
        )

    @verb("repairExecution")
    def plan_repair(
        self, execution: Execution, **asked: Unpack[RepairExecutionFields]
    ) -> Call[RunPlanDocument]:
        """Check a repair as if it were asked for, and run nothing.

        >>> len(client.executions.plan_repair(failed).cells)
        1
        """
        asked["dry_run"] = True
        path = execution_path(execution, "repair")
        return Call("POST", path, RunPlanDocument, body=json_body(RepairExecution(**asked)))

    @verb("getExecutionChain")
    def chain(self, execution: Execution) -> Call[ChainDocument]:
        """Read all runs that repeat one another, whichever of them is named.

        >>> client.executions.chain(run).first_execution_id == run.execution_id
        True
        """
        return Call("GET", execution_path(execution, "chain"), ChainDocument)

    @verb("getExecutionChanges")
    def changes(self, execution: Execution, *, against: Id | None = None) -> Call[ChangesDocument]:
        """Read what is otherwise than in the last run that succeeded, or in a named one.

        >>> client.executions.changes(run, against=run.execution_id).changes.differs
        []
        """
        path = execution_path(execution, "changes")
        return Call("GET", path, ChangesDocument, {"against": against})

    @verb("getExecutionProvenance")
    def provenance(self, execution: Execution) -> Call[Provenance]:
        """Read of what, by what and how the results came about.

        >>> client.executions.provenance(run).notebook.version
        '1.0.0'
        """
        return Call("GET", execution_path(execution, "provenance"), Provenance)

    @procedure("getExecutionProvenance")
    def crate(self, execution: Execution, path: str | Path) -> Steps[Path]:
        """Save the run as a Provenance Run Crate, a ZIP archive.

        >>> client.executions.crate(run, "crate.zip").stat().st_size > 0
        True
        """
        query = {"format": "ro-crate-zip"}
        call = Call("GET", execution_path(execution, "provenance"), bytes, query)
        return downloading.saved(self._talk, call, Path(path), Retries())

    @verb("getExecutionProvenance")
    def crate_metadata(self, execution: Execution) -> Call[dict[str, Any]]:
        """Read what the crate tells of the run, as JSON-LD.

        >>> sorted(client.executions.crate_metadata(run))
        ['@context', '@graph']
        """
        query = {"format": "ro-crate"}
        return Call("GET", execution_path(execution, "provenance"), dict[str, Any], query)

    @listing("getExecutionHistory")
    def history(self, execution: Execution, **asked: Unpack[HistoryFields]) -> Items[ChangedEntry]:
        """Read the run's events, with what each has changed.

        >>> next(client.executions.history(run, sort="-position")).type
        'execution.completed.v1'
        """
        return history(self._talk, execution_path(execution, "history"), asked)


def _entry(data: bytes) -> HistoryEntry:
    return read_as(HistoryEntry, data)


class Executions(ExecutionVerbs, BlockingGroup):
    """Executions of notebooks."""


class AsyncExecutions(ExecutionVerbs, AwaitingGroup):
    """Executions of notebooks, awaited."""
