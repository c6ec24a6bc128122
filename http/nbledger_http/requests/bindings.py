"""What notebooks name and need not be held: the dataset they are bound to, and libraries."""

from collections.abc import Sequence

from nbledger_application.caller import Caller
from nbledger_http.security.access import guid
from nbledger_infrastructure.packages import Libraries, uploads
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Environments
from nbledger_projections.read_models import dataset_details


async def binding_warnings(pool: Pool, access: Caller, binding: str | None) -> list[str]:
    """A warning where ``binding`` names no dataset of the project."""
    if binding is None:
        return []
    dataset_id = guid(binding)
    if dataset_id is not None and await dataset_details.get(
        pool, access.tenant_id, access.project_id, dataset_id
    ):
        return []
    warning = (
        f"datasetBinding: the project has no dataset {binding!r}; the binding is kept, "
        "and loading it in a cell raises an error"
    )
    return [warning]


async def library_warnings(
    store: EventStore, access: Caller, names: Sequence[str], provided: Environments
) -> list[str]:
    """A warning for each library that neither the project nor the operator has, nor the service."""
    known = Libraries(provided.library_folder)
    asked = [name for name in names if not known.is_known(name)]
    uploaded = await uploads.newest(store, access.tenant_id, access.project_id, asked)
    return [
        f"customLibraries: the project has no library {name!r}; the name is kept, and cells can "
        "import it only where a worker has it"
        for name in asked
        if name not in uploaded
    ]
