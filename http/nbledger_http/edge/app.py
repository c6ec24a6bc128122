"""The Litestar application."""

from importlib.metadata import PackageNotFoundError, version

from litestar import Litestar, Router
from litestar.datastructures import State

from nbledger_domain.vocabulary.addresses import audit_path, log_path, project_path
from nbledger_domain.vocabulary.units import MIB
from nbledger_http.description import entry_point, openapi, subscribing
from nbledger_http.edge import known_parameters
from nbledger_http.edge.cross_origin import CrossOrigin
from nbledger_http.edge.middleware import Edge
from nbledger_http.endpoints import (
    datasets,
    downloads,
    event_replays,
    execution_events,
    executions,
    health,
    histories,
    input_files,
    kernels,
    libraries,
    many,
    notebook_parameters,
    notebooks,
    notices,
    provenance,
    repetitions,
    results,
    schedules,
    templates,
    transparency_log,
    uploads,
    webhooks,
)
from nbledger_http.replies import rendering
from nbledger_http.requests.services import Services
from nbledger_http.security import access


def create_app(services: Services) -> Edge:
    """The API as an ASGI application. It neither opens nor closes ``services``."""
    api = Router(
        project_path("{tenant_id:str}", "{project_id:str}"),
        route_handlers=[
            *notebooks.HANDLERS,
            *notebook_parameters.HANDLERS,
            *downloads.HANDLERS,
            *executions.HANDLERS,
            *repetitions.HANDLERS,
            *provenance.HANDLERS,
            *execution_events.HANDLERS,
            *many.HANDLERS,
            *results.HANDLERS,
            *schedules.HANDLERS,
            *notices.HANDLERS,
            *histories.HANDLERS,
            *kernels.HANDLERS,
            *templates.HANDLERS,
            *datasets.HANDLERS,
            *libraries.HANDLERS,
            *webhooks.HANDLERS,
            *event_replays.HANDLERS,
            *uploads.HANDLERS,
            *input_files.HANDLERS,
        ],
        guards=[access.guard, known_parameters.guard],
    )
    log = Router(
        log_path("{tenant_id:str}"),
        route_handlers=transparency_log.HANDLERS,
        guards=[access.guard_log, known_parameters.guard],
    )
    tenant = [
        Router(
            audit_path("{tenant_id:str}", of),
            route_handlers=handlers,
            guards=[access.guard_tenant, known_parameters.guard],
        )
        for of, handlers in histories.TENANT_HANDLERS.items()
    ]
    without_token = Router(
        "/",
        route_handlers=[
            *downloads.OPEN_HANDLERS,
            *health.HANDLERS,
            *entry_point.HANDLERS,
            *openapi.HANDLERS,
            *subscribing.HANDLERS,
        ],
        guards=[access.known_methods],
    )
    app = Litestar(
        route_handlers=[api, log, *tenant, without_token],
        exception_handlers={Exception: rendering.handle},
        request_max_body_size=services.settings.http.max_body_mb * MIB,
        openapi_config=None,
        logging_config=None,
        state=State({"services": services}),
    )
    openapi.install(app, version=_version())
    subscribing.install(app, settings=services.settings, version=_version())
    return Edge(app, CrossOrigin(services.settings.http))


def _version() -> str:
    try:
        return version("nbledger")
    except PackageNotFoundError:
        return "0"
