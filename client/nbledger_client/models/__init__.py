"""The types of the API, each imported when it is asked for.

Made by `make client-models`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbledger_client.models.actions import ActionDocument as ActionDocument
    from nbledger_client.models.actions import ActionItemDocument as ActionItemDocument
    from nbledger_client.models.actions import ActionList as ActionList
    from nbledger_client.models.actions import CountedExecutions as CountedExecutions
    from nbledger_client.models.actions import ExecutionActionRequest as ExecutionActionRequest
    from nbledger_client.models.actions import PassedOver as PassedOver
    from nbledger_client.models.common import AttemptDocument as AttemptDocument
    from nbledger_client.models.common import AutomationSummary as AutomationSummary
    from nbledger_client.models.common import Cause as Cause
    from nbledger_client.models.common import CellRange as CellRange
    from nbledger_client.models.common import ErrorDocument as ErrorDocument
    from nbledger_client.models.common import RepetitionDocument as RepetitionDocument
    from nbledger_client.models.common import RetryPolicy as RetryPolicy
    from nbledger_client.models.common import RetryPolicyBody as RetryPolicyBody
    from nbledger_client.models.common import Session as Session
    from nbledger_client.models.common import UsualDocument as UsualDocument
    from nbledger_client.models.comparisons import CellComparison as CellComparison
    from nbledger_client.models.comparisons import CellDifference as CellDifference
    from nbledger_client.models.comparisons import CellsChange as CellsChange
    from nbledger_client.models.comparisons import ChainDocument as ChainDocument
    from nbledger_client.models.comparisons import (
        ChainedExecutionDocument as ChainedExecutionDocument,
    )
    from nbledger_client.models.comparisons import ChangeCounts as ChangeCounts
    from nbledger_client.models.comparisons import ChangesDocument as ChangesDocument
    from nbledger_client.models.comparisons import ComparedRun as ComparedRun
    from nbledger_client.models.comparisons import ComparedVersion as ComparedVersion
    from nbledger_client.models.comparisons import DatasetChange as DatasetChange
    from nbledger_client.models.comparisons import Differences as Differences
    from nbledger_client.models.comparisons import EnvironmentChange as EnvironmentChange
    from nbledger_client.models.comparisons import KernelChange as KernelChange
    from nbledger_client.models.comparisons import MemberChange as MemberChange
    from nbledger_client.models.comparisons import MembersChange as MembersChange
    from nbledger_client.models.comparisons import NotebookChange as NotebookChange
    from nbledger_client.models.comparisons import NotebookComparison as NotebookComparison
    from nbledger_client.models.comparisons import ValueChange as ValueChange
    from nbledger_client.models.data import ChangedDataset as ChangedDataset
    from nbledger_client.models.data import Column as Column
    from nbledger_client.models.data import CsvParsing as CsvParsing
    from nbledger_client.models.data import DatasetDocument as DatasetDocument
    from nbledger_client.models.data import DatasetItemDocument as DatasetItemDocument
    from nbledger_client.models.data import DatasetList as DatasetList
    from nbledger_client.models.data import LibraryDocument as LibraryDocument
    from nbledger_client.models.data import LibraryItemDocument as LibraryItemDocument
    from nbledger_client.models.data import LibraryList as LibraryList
    from nbledger_client.models.data import LineageDocument as LineageDocument
    from nbledger_client.models.data import VersionDocument as VersionDocument
    from nbledger_client.models.execution_bodies import CellRangeBody as CellRangeBody
    from nbledger_client.models.execution_bodies import ExecuteNotebook as ExecuteNotebook
    from nbledger_client.models.execution_bodies import OutputOptionsBody as OutputOptionsBody
    from nbledger_client.models.execution_bodies import RepairExecution as RepairExecution
    from nbledger_client.models.execution_bodies import RerunExecution as RerunExecution
    from nbledger_client.models.executions import CellResultDocument as CellResultDocument
    from nbledger_client.models.executions import DurationWarningDocument as DurationWarningDocument
    from nbledger_client.models.executions import EnrichedDataDocument as EnrichedDataDocument
    from nbledger_client.models.executions import EnrichedDatasetDocument as EnrichedDatasetDocument
    from nbledger_client.models.executions import ExecutionDocument as ExecutionDocument
    from nbledger_client.models.executions import ExecutionItem as ExecutionItem
    from nbledger_client.models.executions import ExecutionListDocument as ExecutionListDocument
    from nbledger_client.models.executions import GivenDataset as GivenDataset
    from nbledger_client.models.executions import NewExecution as NewExecution
    from nbledger_client.models.executions import OutputsDocument as OutputsDocument
    from nbledger_client.models.executions import PlannedCellDocument as PlannedCellDocument
    from nbledger_client.models.executions import ProgressDocument as ProgressDocument
    from nbledger_client.models.executions import ProjectExecutions as ProjectExecutions
    from nbledger_client.models.executions import QueueDocument as QueueDocument
    from nbledger_client.models.executions import ResourcesDocument as ResourcesDocument
    from nbledger_client.models.executions import RunEnvironmentDocument as RunEnvironmentDocument
    from nbledger_client.models.executions import RunPlanDocument as RunPlanDocument
    from nbledger_client.models.histories import ChangedEntry as ChangedEntry
    from nbledger_client.models.histories import ConsistencyDocument as ConsistencyDocument
    from nbledger_client.models.histories import Erasure as Erasure
    from nbledger_client.models.histories import EventCause as EventCause
    from nbledger_client.models.histories import EventPage as EventPage
    from nbledger_client.models.histories import FieldChange as FieldChange
    from nbledger_client.models.histories import History as History
    from nbledger_client.models.histories import HistoryEntry as HistoryEntry
    from nbledger_client.models.histories import InclusionDocument as InclusionDocument
    from nbledger_client.models.histories import LogDocument as LogDocument
    from nbledger_client.models.histories import LogLinks as LogLinks
    from nbledger_client.models.histories import ReadRecord as ReadRecord
    from nbledger_client.models.histories import ReadRecords as ReadRecords
    from nbledger_client.models.histories import Shortened as Shortened
    from nbledger_client.models.histories import TimestampDocument as TimestampDocument
    from nbledger_client.models.histories import TimestampsDocument as TimestampsDocument
    from nbledger_client.models.histories import WitnessDocument as WitnessDocument
    from nbledger_client.models.notebook_bodies import AutoExecutionSetting as AutoExecutionSetting
    from nbledger_client.models.notebook_bodies import ChangedCell as ChangedCell
    from nbledger_client.models.notebook_bodies import CreateNotebook as CreateNotebook
    from nbledger_client.models.notebook_bodies import EnvironmentBody as EnvironmentBody
    from nbledger_client.models.notebook_bodies import IntegrationBody as IntegrationBody
    from nbledger_client.models.notebook_bodies import NewCell as NewCell
    from nbledger_client.models.notebook_bodies import ScheduleSetting as ScheduleSetting
    from nbledger_client.models.notebook_bodies import UpdateNotebook as UpdateNotebook
    from nbledger_client.models.notebooks import AutomationSettings as AutomationSettings
    from nbledger_client.models.notebooks import CellCounts as CellCounts
    from nbledger_client.models.notebooks import CellDocument as CellDocument
    from nbledger_client.models.notebooks import ChangedNotebook as ChangedNotebook
    from nbledger_client.models.notebooks import DeletionUnderWay as DeletionUnderWay
    from nbledger_client.models.notebooks import EnvironmentDocument as EnvironmentDocument
    from nbledger_client.models.notebooks import FileDocument as FileDocument
    from nbledger_client.models.notebooks import FileList as FileList
    from nbledger_client.models.notebooks import FilesChanged as FilesChanged
    from nbledger_client.models.notebooks import IntegrationDocument as IntegrationDocument
    from nbledger_client.models.notebooks import NewNotebook as NewNotebook
    from nbledger_client.models.notebooks import NotebookItemDocument as NotebookItemDocument
    from nbledger_client.models.notebooks import NotebookListDocument as NotebookListDocument
    from nbledger_client.models.notebooks import ParameterDocument as ParameterDocument
    from nbledger_client.models.notebooks import ParametersDocument as ParametersDocument
    from nbledger_client.models.notebooks import Parsing as Parsing
    from nbledger_client.models.notebooks import ScheduleSettings as ScheduleSettings
    from nbledger_client.models.notebooks import ScheduleSummary as ScheduleSummary
    from nbledger_client.models.notebooks import ShownNotebook as ShownNotebook
    from nbledger_client.models.notebooks import TemplateDocument as TemplateDocument
    from nbledger_client.models.notebooks import TemplateListDocument as TemplateListDocument
    from nbledger_client.models.notebooks import (
        TemplateParameterDocument as TemplateParameterDocument,
    )
    from nbledger_client.models.provenance import ArtifactFacts as ArtifactFacts
    from nbledger_client.models.provenance import AttemptFacts as AttemptFacts
    from nbledger_client.models.provenance import CellFacts as CellFacts
    from nbledger_client.models.provenance import DatasetFacts as DatasetFacts
    from nbledger_client.models.provenance import EnvironmentFacts as EnvironmentFacts
    from nbledger_client.models.provenance import ExecutedKernel as ExecutedKernel
    from nbledger_client.models.provenance import InputFacts as InputFacts
    from nbledger_client.models.provenance import LogFacts as LogFacts
    from nbledger_client.models.provenance import NotebookFacts as NotebookFacts
    from nbledger_client.models.provenance import OutputFacts as OutputFacts
    from nbledger_client.models.provenance import OutputOptions as OutputOptions
    from nbledger_client.models.provenance import Provenance as Provenance
    from nbledger_client.models.provenance import RepeatedRun as RepeatedRun
    from nbledger_client.models.provenance import Representation as Representation
    from nbledger_client.models.provenance import Resources as Resources
    from nbledger_client.models.provenance import RunOptions as RunOptions
    from nbledger_client.models.provenance import UploadedFile as UploadedFile
    from nbledger_client.models.results import Alternative as Alternative
    from nbledger_client.models.results import CellResult as CellResult
    from nbledger_client.models.results import DatasetResult as DatasetResult
    from nbledger_client.models.results import Dimensions as Dimensions
    from nbledger_client.models.results import ExecutionResults as ExecutionResults
    from nbledger_client.models.results import FileResult as FileResult
    from nbledger_client.models.results import FurtherFile as FurtherFile
    from nbledger_client.models.results import Lineage as Lineage
    from nbledger_client.models.results import ModelResult as ModelResult
    from nbledger_client.models.results import OutputResult as OutputResult
    from nbledger_client.models.results import ReportResult as ReportResult
    from nbledger_client.models.results import ResultColumn as ResultColumn
    from nbledger_client.models.schedules import AskedFiring as AskedFiring
    from nbledger_client.models.schedules import AskedFirings as AskedFirings
    from nbledger_client.models.schedules import AutomationDocument as AutomationDocument
    from nbledger_client.models.schedules import FailingSeries as FailingSeries
    from nbledger_client.models.schedules import FiringDocument as FiringDocument
    from nbledger_client.models.schedules import GatheringDocument as GatheringDocument
    from nbledger_client.models.schedules import OutcomeDocument as OutcomeDocument
    from nbledger_client.models.schedules import ScheduleBackfill as ScheduleBackfill
    from nbledger_client.models.schedules import ScheduleDocument as ScheduleDocument
    from nbledger_client.models.schedules import ScheduleItem as ScheduleItem
    from nbledger_client.models.schedules import ScheduleList as ScheduleList
    from nbledger_client.models.schedules import ScheduleNote as ScheduleNote
    from nbledger_client.models.schedules import TriggerDocument as TriggerDocument
    from nbledger_client.models.service import EntryPoint as EntryPoint
    from nbledger_client.models.service import EventSchema as EventSchema
    from nbledger_client.models.service import EventSchemas as EventSchemas
    from nbledger_client.models.service import FailingRunsDocument as FailingRunsDocument
    from nbledger_client.models.service import Health as Health
    from nbledger_client.models.service import KernelDocument as KernelDocument
    from nbledger_client.models.service import KernelListDocument as KernelListDocument
    from nbledger_client.models.service import KernelOutageDocument as KernelOutageDocument
    from nbledger_client.models.service import MissingKernelDocument as MissingKernelDocument
    from nbledger_client.models.service import NoticeDocument as NoticeDocument
    from nbledger_client.models.service import NoticeList as NoticeList
    from nbledger_client.models.service import SlowRunDocument as SlowRunDocument
    from nbledger_client.models.webhooks import DeliveryAttemptDocument as DeliveryAttemptDocument
    from nbledger_client.models.webhooks import DeliveryDocument as DeliveryDocument
    from nbledger_client.models.webhooks import DeliveryItem as DeliveryItem
    from nbledger_client.models.webhooks import DeliveryPage as DeliveryPage
    from nbledger_client.models.webhooks import WebhookChange as WebhookChange
    from nbledger_client.models.webhooks import WebhookDocument as WebhookDocument
    from nbledger_client.models.webhooks import WebhookList as WebhookList
    from nbledger_client.models.webhooks import WebhookRedelivery as WebhookRedelivery
    from nbledger_client.models.webhooks import WebhookRequest as WebhookRequest
    from nbledger_client.models.webhooks import WebhookWithSecret as WebhookWithSecret

MODULES = {
    "ActionDocument": "actions",
    "ActionItemDocument": "actions",
    "ActionList": "actions",
    "Alternative": "results",
    "ArtifactFacts": "provenance",
    "AskedFiring": "schedules",
    "AskedFirings": "schedules",
    "AttemptDocument": "common",
    "AttemptFacts": "provenance",
    "AutoExecutionSetting": "notebook_bodies",
    "AutomationDocument": "schedules",
    "AutomationSettings": "notebooks",
    "AutomationSummary": "common",
    "Cause": "common",
    "CellComparison": "comparisons",
    "CellCounts": "notebooks",
    "CellDifference": "comparisons",
    "CellDocument": "notebooks",
    "CellFacts": "provenance",
    "CellRange": "common",
    "CellRangeBody": "execution_bodies",
    "CellResult": "results",
    "CellResultDocument": "executions",
    "CellsChange": "comparisons",
    "ChainDocument": "comparisons",
    "ChainedExecutionDocument": "comparisons",
    "ChangeCounts": "comparisons",
    "ChangedCell": "notebook_bodies",
    "ChangedDataset": "data",
    "ChangedEntry": "histories",
    "ChangedNotebook": "notebooks",
    "ChangesDocument": "comparisons",
    "Column": "data",
    "ComparedRun": "comparisons",
    "ComparedVersion": "comparisons",
    "ConsistencyDocument": "histories",
    "CountedExecutions": "actions",
    "CreateNotebook": "notebook_bodies",
    "CsvParsing": "data",
    "DatasetChange": "comparisons",
    "DatasetDocument": "data",
    "DatasetFacts": "provenance",
    "DatasetItemDocument": "data",
    "DatasetList": "data",
    "DatasetResult": "results",
    "DeletionUnderWay": "notebooks",
    "DeliveryAttemptDocument": "webhooks",
    "DeliveryDocument": "webhooks",
    "DeliveryItem": "webhooks",
    "DeliveryPage": "webhooks",
    "Differences": "comparisons",
    "Dimensions": "results",
    "DurationWarningDocument": "executions",
    "EnrichedDataDocument": "executions",
    "EnrichedDatasetDocument": "executions",
    "EntryPoint": "service",
    "EnvironmentBody": "notebook_bodies",
    "EnvironmentChange": "comparisons",
    "EnvironmentDocument": "notebooks",
    "EnvironmentFacts": "provenance",
    "Erasure": "histories",
    "ErrorDocument": "common",
    "EventCause": "histories",
    "EventPage": "histories",
    "EventSchema": "service",
    "EventSchemas": "service",
    "ExecuteNotebook": "execution_bodies",
    "ExecutedKernel": "provenance",
    "ExecutionActionRequest": "actions",
    "ExecutionDocument": "executions",
    "ExecutionItem": "executions",
    "ExecutionListDocument": "executions",
    "ExecutionResults": "results",
    "FailingRunsDocument": "service",
    "FailingSeries": "schedules",
    "FieldChange": "histories",
    "FileDocument": "notebooks",
    "FileList": "notebooks",
    "FileResult": "results",
    "FilesChanged": "notebooks",
    "FiringDocument": "schedules",
    "FurtherFile": "results",
    "GatheringDocument": "schedules",
    "GivenDataset": "executions",
    "Health": "service",
    "History": "histories",
    "HistoryEntry": "histories",
    "InclusionDocument": "histories",
    "InputFacts": "provenance",
    "IntegrationBody": "notebook_bodies",
    "IntegrationDocument": "notebooks",
    "KernelChange": "comparisons",
    "KernelDocument": "service",
    "KernelListDocument": "service",
    "KernelOutageDocument": "service",
    "LibraryDocument": "data",
    "LibraryItemDocument": "data",
    "LibraryList": "data",
    "Lineage": "results",
    "LineageDocument": "data",
    "LogDocument": "histories",
    "LogFacts": "provenance",
    "LogLinks": "histories",
    "MemberChange": "comparisons",
    "MembersChange": "comparisons",
    "MissingKernelDocument": "service",
    "ModelResult": "results",
    "NewCell": "notebook_bodies",
    "NewExecution": "executions",
    "NewNotebook": "notebooks",
    "NotebookChange": "comparisons",
    "NotebookComparison": "comparisons",
    "NotebookFacts": "provenance",
    "NotebookItemDocument": "notebooks",
    "NotebookListDocument": "notebooks",
    "NoticeDocument": "service",
    "NoticeList": "service",
    "OutcomeDocument": "schedules",
    "OutputFacts": "provenance",
    "OutputOptions": "provenance",
    "OutputOptionsBody": "execution_bodies",
    "OutputResult": "results",
    "OutputsDocument": "executions",
    "ParameterDocument": "notebooks",
    "ParametersDocument": "notebooks",
    "Parsing": "notebooks",
    "PassedOver": "actions",
    "PlannedCellDocument": "executions",
    "ProgressDocument": "executions",
    "ProjectExecutions": "executions",
    "Provenance": "provenance",
    "QueueDocument": "executions",
    "ReadRecord": "histories",
    "ReadRecords": "histories",
    "RepairExecution": "execution_bodies",
    "RepeatedRun": "provenance",
    "RepetitionDocument": "common",
    "ReportResult": "results",
    "Representation": "provenance",
    "RerunExecution": "execution_bodies",
    "Resources": "provenance",
    "ResourcesDocument": "executions",
    "ResultColumn": "results",
    "RetryPolicy": "common",
    "RetryPolicyBody": "common",
    "RunEnvironmentDocument": "executions",
    "RunOptions": "provenance",
    "RunPlanDocument": "executions",
    "ScheduleBackfill": "schedules",
    "ScheduleDocument": "schedules",
    "ScheduleItem": "schedules",
    "ScheduleList": "schedules",
    "ScheduleNote": "schedules",
    "ScheduleSetting": "notebook_bodies",
    "ScheduleSettings": "notebooks",
    "ScheduleSummary": "notebooks",
    "Session": "common",
    "Shortened": "histories",
    "ShownNotebook": "notebooks",
    "SlowRunDocument": "service",
    "TemplateDocument": "notebooks",
    "TemplateListDocument": "notebooks",
    "TemplateParameterDocument": "notebooks",
    "TimestampDocument": "histories",
    "TimestampsDocument": "histories",
    "TriggerDocument": "schedules",
    "UpdateNotebook": "notebook_bodies",
    "UploadedFile": "provenance",
    "UsualDocument": "common",
    "ValueChange": "comparisons",
    "VersionDocument": "data",
    "WebhookChange": "webhooks",
    "WebhookDocument": "webhooks",
    "WebhookList": "webhooks",
    "WebhookRedelivery": "webhooks",
    "WebhookRequest": "webhooks",
    "WebhookWithSecret": "webhooks",
    "WitnessDocument": "histories",
}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
