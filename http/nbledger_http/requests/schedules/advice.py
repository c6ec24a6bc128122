"""What is to be said of a schedule's parameters: what of them its notebook does not take."""

from collections.abc import Sequence

from nbledger_domain.cells import Cell
from nbledger_domain.schedule import ScheduleSettings
from nbledger_domain.vocabulary.languages import LANGUAGES
from nbledger_http.requests.parameter_advice import advice, as_warnings


def schedule_advice(
    setting: str | ScheduleSettings | None,
    cells: Sequence[Cell],
    kernel_type: str,
    *,
    pointer: str = "",
) -> list[str]:
    """Warnings as a request to execute ``cells`` with the schedule's parameters has them.

    ``pointer`` leads to the schedule in what was sent. Nothing is said of a kernel type of which
    only workers know the language.
    """
    if not isinstance(setting, ScheduleSettings) or not cells:
        return []
    told = advice(cells, cells, setting.parameters, LANGUAGES.get(kernel_type))
    return [f"{pointer}{each}" for each in as_warnings(told)]
