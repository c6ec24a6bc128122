"""The kernel that a notebook's metadata names."""

from typing import Any

import pytest

from nbledger_infrastructure.notebooks.kernelspecs import kernel_type_of, with_kernelspec
from nbledger_infrastructure.settings import Worker

USUAL = Worker().kernels
OTHERS = {"python3": "python3", "r": "R-4", "gpu": "cuda", "small": "python3"}


@pytest.mark.parametrize(
    ("metadata", "kernel_type"),
    [
        ({"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}}, "r"),
        ({"kernelspec": {"name": "mine", "display_name": "P"}, "language_info": {"name": "python"}},
         "python3"),
        ({"kernelspec": {"name": "scala", "display_name": "S"}}, "scala"),
        ({"kernelspec": {"name": "almond", "language": "Scala"}}, "scala"),
        ({"kernelspec": "ir", "language_info": ["R"]}, None),
        ({"kernelspec": {"name": "julia-1.9", "display_name": "Julia", "language": "julia"}},
         "julia-1.9"),
        ({"kernelspec": {"name": "bash"}}, "bash"),
        ({"kernelspec": {"name": "my kernel", "language": "octave"}}, "octave"),
        ({"kernelspec": {"name": "../x"}, "language_info": {"name": "a/b"}}, None),
        ({"kernelspec": {"name": "x" * 65}}, None),
        ({"language_info": {"name": "cobol"}}, "cobol"),
        ({"kernelspec": {"display_name": "Python 3 (ipykernel)"}}, "python3"),
        ({"kernelspec": {"name": "python3.9"}}, "python3"),
        ({"kernelspec": {"name": "mine", "display_name": "R 4"}}, "r"),
        ({"kernelspec": {"name": "ruby", "display_name": "Ruby 3"}}, "ruby"),
        ({"kernelspec": {"name": 5, "display_name": ["R"], "language": {}}}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_kernel_type_is_read_from_the_metadata(
    metadata: dict[str, Any], kernel_type: str | None
) -> None:
    assert kernel_type_of(metadata, USUAL) == kernel_type


@pytest.mark.parametrize("kernels", [USUAL, OTHERS])
def test_what_is_written_is_read_again(kernels: dict[str, str]) -> None:
    for kernel_type, name in kernels.items():
        metadata = with_kernelspec({"title": "x"}, kernel_type, kernels)
        assert metadata["title"] == "x"
        assert metadata["kernelspec"]["name"] == name
        if list(kernels.values()).count(name) == 1:
            assert kernel_type_of(metadata, kernels) == kernel_type
