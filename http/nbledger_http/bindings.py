"""Bindings of notebooks to datasets, which need not be held."""

from nbledger_http.access import Access, guid
from nbledger_infrastructure.database import Pool
from nbledger_projections import dataset_details


async def binding_warnings(pool: Pool, access: Access, binding: str | None) -> list[str]:
    """A warning where ``binding`` names no dataset of the project."""
    if binding is None:
        return []
    dataset_id = guid(binding)
    if dataset_id is not None and await dataset_details.get(
        pool, access.tenant_id, access.project_id, dataset_id
    ):
        return []
    warning = (
        f"datasetBinding: no dataset {binding!r} is held here; the binding is kept as it is, "
        "and loading it in a cell will raise an error"
    )
    return [warning]
