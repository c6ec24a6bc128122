"""Structured logging for every process: coloured on a terminal, JSON elsewhere."""

import logging
import sys
from typing import Any

import msgspec
import structlog
from structlog.typing import Processor, WrappedLogger

from nbledger_infrastructure.settings import Log


def configure(settings: Log, *, role: str) -> None:
    """Send structlog's and the standard library's records to standard error in one form.

    Every line carries ``role``, the time in UTC, the level, and what is bound to the context
    (:func:`structlog.contextvars.bind_contextvars`), such as request and execution ids. Our own
    records go out directly; those of libraries, from warnings on, through ``logging``.
    """
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    factory: Any
    if settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty()):
        console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        render: list[Processor] = [console]
        foreign = render
        factory = structlog.PrintLoggerFactory(sys.stderr)
    else:
        tracebacks = structlog.processors.ExceptionRenderer(
            # Local variables hold tokens and notebooks.
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        render = [tracebacks, structlog.processors.JSONRenderer(serializer=_bytes)]
        foreign = [tracebacks, structlog.processors.JSONRenderer(serializer=_text)]
        factory = structlog.BytesLoggerFactory(sys.stderr.buffer)
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *foreign],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(role=role)


def _name(_: WrappedLogger, __: str, record: Any) -> Any:
    """Say which library speaks."""
    record["logger"] = record["_record"].name
    return record


def _bytes(record: Any, **_: Any) -> bytes:
    return msgspec.json.encode(record, enc_hook=repr)


def _text(record: Any, **_: Any) -> str:
    return _bytes(record).decode()
