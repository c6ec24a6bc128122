"""Structured logging for every process: coloured on a terminal, JSON elsewhere."""

import logging
import sys

import structlog

from nbledger_infrastructure.settings import Log


def configure(settings: Log, *, role: str) -> None:
    """Send structlog's and the standard library's records to standard error in one form.

    Every line carries ``role``, the time in UTC, the level, and what is bound to the context
    (:func:`structlog.contextvars.bind_contextvars`), such as request and execution ids.
    """
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    )
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("nbledger").setLevel(level)
    for name in (
        "domain",
        "infrastructure",
        "projections",
        "workers",
        "http",
    ):
        logging.getLogger(f"nbledger_{name}").setLevel(level)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(role=role)
