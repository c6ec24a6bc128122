"""Settings: where they come from, and how faults are told."""

from pathlib import Path

import pytest

from nbledger_infrastructure.settings import Settings
from nbledger_infrastructure.settings_loading import SettingsError, environment_names, load, require


def test_defaults_need_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load({}) == Settings()


def test_the_environment_overlays_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[http]\nport = 9000\nhost = "0.0.0.0"\n[worker]\nkernels = {python3 = "py"}\n')
    settings = load({"NBLEDGER_HTTP_PORT": "9001", "NBLEDGER_CONFIG": str(file)})
    assert settings.http.port == 9001
    assert settings.http.host == "0.0.0.0"  # noqa: S104 (a value to compare)
    assert settings.worker.kernels == {"python3": "py"}


def test_tables_are_json_in_the_environment() -> None:
    settings = load({"NBLEDGER_WORKER_KERNELS": '{"r": "ir"}'})
    assert settings.worker.kernels == {"r": "ir"}


def test_every_fault_is_told_at_once_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[http]\nport = "many"\nprot = 1\n[htp]\nport = 1\n')
    with pytest.raises(SettingsError) as failure:
        load(
            {
                "NBLEDGER_POSTGRES_POOL_SIZE": "0",
                "NBLEDGER_KAFKA_IDEMPOTENT": "perhaps",
                "NBLEDGER_POSTGRES_DNS": "x",
                "NBLEDGER_WORKER_KERNELS": "python3",
            },
            config=file,
        )
    told = "\n".join(failure.value.faults)
    assert f"{file}: port in [http]: 'many' is not a whole number" in told
    assert f"{file}: [http] has no setting 'prot'" in told
    assert f"{file}: [htp] is no section" in told
    assert "NBLEDGER_POSTGRES_POOL_SIZE: '0': must be a whole number >= 1" in told
    assert "NBLEDGER_KAFKA_IDEMPOTENT: 'perhaps' is not true or false" in told
    assert (
        "NBLEDGER_POSTGRES_DNS: there is no such setting; did you mean NBLEDGER_POSTGRES_DSN?"
        in told
    )
    assert "NBLEDGER_WORKER_KERNELS" in told


@pytest.mark.parametrize("content", [b"port =", b"\xff\xfe"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"settings\.toml: is not valid TOML"):
        load({}, config=file)


def test_a_missing_file_that_was_named_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load({"NBLEDGER_CONFIG": str(tmp_path / "none.toml")})


def test_require_names_what_is_missing() -> None:
    with pytest.raises(SettingsError, match="NBLEDGER_POSTGRES_DSN"):
        require(Settings(), "postgres.dsn")


def test_every_setting_has_an_environment_variable() -> None:
    assert environment_names()["NBLEDGER_HTTP_PORT"] == ("http", "port")
    assert len(environment_names()) == len(set(environment_names().values()))
