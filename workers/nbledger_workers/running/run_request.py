"""What the kernel of a run is asked to do."""

from typing import Final

from nbledger_domain.execution import Execution
from nbledger_domain.vocabulary.units import MB
from nbledger_infrastructure.settings import Settings
from nbledger_workers.confinement import levels
from nbledger_workers.kernel.protocol import RunNotebook
from nbledger_workers.running.run_context import RunContext
from nbledger_workers.translation.planning import RunPlan

_UNLIMITED_MB: Final = 1_000_000
_UNLIMITED_COUNT: Final = 1_000_000_000


def run_request(
    execution: Execution,
    planned: RunPlan,
    kernelspec: str,
    context: RunContext,
    settings: Settings,
) -> RunNotebook:
    """The notebook as planned, with the options of the request and the limits of the worker."""
    options, limits = execution.options, settings.limits
    return RunNotebook(
        exit_seconds=settings.worker.exit_seconds,
        notebook=planned.notebook,
        cells_to_run=list(range(planned.count)),
        kernel_name=kernelspec,
        timeout=options.timeout,
        cell_timeout=options.cell_timeout,
        continue_on_error=options.continue_on_error,
        capture_outputs=options.output_options.capture_outputs,
        save_intermediate_results=options.output_options.save_intermediate_results,
        limits=levels.run_limits(limits),
        max_output_bytes=(limits.output_mb_per_cell or _UNLIMITED_MB) * MB,
        max_output_bytes_per_run=(limits.output_mb_per_run or _UNLIMITED_MB) * MB,
        max_outputs=limits.outputs_per_cell or _UNLIMITED_COUNT,
        # The cell of parameters acts on nothing, and no event tells of it.
        held_cells=sorted(planned.cells),
        context=context.encode(),
    )
