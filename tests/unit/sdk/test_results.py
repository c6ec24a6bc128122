"""Results as notebooks hand them back: files, and last the one that names them."""

import itertools
import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mindzie_sdk import DatasetUnavailableError, ProcessMiningClient, reports, sample_event_log

BOUND = "880e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where results go in a run that is bound to a dataset of a sample log."""
    run_file = tmp_path / ".nbledger" / "run.json"
    run_file.parent.mkdir()
    pl.DataFrame({"case_id": ["a", "b"], "amount": [1, 2]}).write_parquet(tmp_path / "0.parquet")
    told = {
        "datasetBinding": BOUND,
        "outputFormat": "enriched_dataframe",
        "datasets": {
            BOUND: {
                "path": str(tmp_path / "0.parquet"),
                "name": "Loans 2024",
                "version": 4,
                "rowCount": 2,
                "columns": [
                    {"name": "case_id", "type": "string"},
                    {"name": "amount", "type": "integer"},
                ],
            }
        },
    }
    run_file.write_text(json.dumps(told))
    monkeypatch.setenv("NBLEDGER_RUN_FILE", str(run_file))
    return run_file.parent / "results"


def handed_back(results: Path) -> list[dict[str, Any]]:
    """What is in the folder, each file of which must belong to a result."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    named = {file["path"] for each in found for file in each["files"]}
    left = {path.name for path in results.iterdir() if path.suffix != ".json"}
    assert left == named
    return found


def test_an_enriched_dataset(results: Path) -> None:
    client = ProcessMiningClient()
    frame = client.load_dataset()
    frame["score"] = [0.5, None]
    frame["flag"] = frame["amount"] > 1
    saved = client.save_enriched_dataset(frame)
    assert [path.name for path in saved.files] == ["000001-data.csv", "000001-table.parquet"]
    assert repr(saved).startswith("<enriched dataset 'Loans 2024_enriched': 000001-data.csv, ")
    assert handed_back(results) == [
        {
            "kind": "enriched_dataset",
            "name": "Loans 2024_enriched",
            "files": [
                {
                    "path": "000001-data.csv",
                    "fileName": "Loans_2024_enriched.csv",
                    "mediaType": "text/csv",
                    "role": "data",
                },
                {
                    "path": "000001-table.parquet",
                    "fileName": "Loans_2024_enriched.parquet",
                    "mediaType": "application/vnd.apache.parquet",
                    "role": "table",
                },
            ],
            "attributes": {
                "recordCount": 2,
                "columns": [
                    {"name": "case_id", "type": "string"},
                    {"name": "amount", "type": "integer"},
                    {"name": "score", "type": "number"},
                    {"name": "flag", "type": "boolean"},
                ],
                "newColumns": ["score", "flag"],
                "format": "csv",
                "frame": "pandas_dataframe",
                "datasetName": "Loans 2024_enriched",
                "sourceDatasetId": BOUND,
                "sourceVersion": 4,
            },
        }
    ]
    for table in (
        pl.read_parquet(results / "000001-table.parquet"),
        pl.read_csv(results / "000001-data.csv"),
    ):
        assert table.rows() == [("a", 1, 0.5, False), ("b", 2, None, True)]


def test_the_output_format_of_the_notebook_is_kept_to(results: Path) -> None:
    frame = pl.DataFrame({"case_id": ["a"], "text": ['with "quotes", and\nlines']})
    run_file = results.parent / "run.json"
    run_file.write_text(json.dumps({"outputFormat": "parquet"}))
    client = ProcessMiningClient()
    client.save_enriched_dataset(frame, "one", "csv")
    client.save_enriched_dataset(frame, "two")
    first, second = handed_back(results)
    assert first["files"][0]["mediaType"] == "text/csv"
    assert first["files"][0]["fileName"] == "one.csv"
    assert pl.read_csv(results / "000001-data.csv").equals(frame)
    assert second["attributes"]["format"] == "parquet"
    assert [file["fileName"] for file in second["files"]] == ["two.parquet"]
    assert pl.read_parquet(results / "000002-data.parquet").equals(frame)
    # The run has no dataset, so that there is nothing to tell what is new.
    assert first["attributes"]["newColumns"] == []
    assert "sourceDatasetId" not in first["attributes"]
    wrong: Any = "xlsx"
    with pytest.raises(ValueError, match="xlsx"):
        client.save_enriched_dataset(frame, "three", wrong)


def test_what_is_new_is_told_against_the_source(results: Path) -> None:
    client = ProcessMiningClient()
    log = client.load_sample_log(5).assign(late=True)
    # It was not the dataset of the run, which still is what a result is compared with.
    assert client.save_enriched_dataset(log, "a").attributes["sourceDatasetId"] == BOUND
    with pytest.raises(DatasetUnavailableError, match="nowhere"):
        client.save_enriched_dataset(log, "b", source="nowhere")
    (results.parent / "run.json").write_text('{"datasetBinding": "not-held"}')
    client = ProcessMiningClient()
    log = client.load_sample_log(5).assign(late=True)
    attributes = client.save_enriched_dataset(log, "c").attributes
    assert attributes["newColumns"] == ["late"]
    assert "sourceDatasetId" not in attributes
    assert client.save_enriched_dataset(log).name == "dataset_enriched"


def customers() -> tuple[Any, Any]:
    chance = np.random.default_rng(1)
    features: Any = pd.DataFrame(
        chance.normal(size=(120, 3)), columns=["journey_score", "cycle_time", "touchpoint_count"]
    )
    return features, (features["cycle_time"] + features["journey_score"] > 0).rename("churned")


# scikit-learn is imported where it is used: it takes seconds, and every process collects all tests.


def test_a_fitted_classifier(results: Path) -> None:
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    features, target = customers()
    forest = RandomForestClassifier(n_estimators=5, random_state=0).fit(features, target)
    ProcessMiningClient().save_model(
        forest,
        "customer_churn_predictor",
        metrics={"accuracy": np.float32(0.87), "recall": 1},
        target="churned",
    )
    (told,) = handed_back(results)
    assert told["kind"] == "model"
    assert told["name"] == "customer_churn_predictor"
    attributes = told["attributes"]
    libraries = attributes.pop("libraries")
    assert {"python", "scikit-learn", "numpy"} <= set(libraries)
    assert attributes == {
        "modelType": "RandomForestClassifier",
        "features": ["journey_score", "cycle_time", "touchpoint_count"],
        "target": "churned",
        "accuracy": pytest.approx(0.87),
        "metrics": {"accuracy": pytest.approx(0.87), "recall": 1.0},
    }
    assert [(file["fileName"], file["role"]) for file in told["files"]] == [
        ("customer_churn_predictor.pkl", "model"),
        ("customer_churn_predictor.skops", "skops"),
    ]
    expected = list(forest.predict(features))
    unpickled = pickle.loads((results / "000001-model.pkl").read_bytes())  # noqa: S301
    assert list(unpickled.predict(features)) == expected
    safe = results / "000001-skops.skops"
    trusted = skops.io.get_untrusted_types(file=safe)
    assert list(skops.io.load(safe, trusted=trusted).predict(features)) == expected


def test_what_estimators_have_found_out_themselves(results: Path) -> None:
    from sklearn.cluster import KMeans
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, target = customers()
    client = ProcessMiningClient()

    def told(estimator: Any, **given: Any) -> Any:
        return client.save_model(estimator, **given).attributes

    forest = RandomForestClassifier(n_estimators=30, oob_score=True, random_state=0)
    attributes = told(forest.fit(features, target))
    assert attributes["accuracy"] == forest.oob_score_
    assert attributes["metrics"] == {"oob_score": forest.oob_score_, "accuracy": forest.oob_score_}

    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1]}, cv=2)
    attributes = told(search.fit(features, target))
    assert attributes["modelType"] == "LogisticRegression"
    assert attributes["accuracy"] == search.best_score_
    assert attributes["features"] == list(features.columns)

    # A score that is no accuracy is not called one; what is given comes first.
    recall = GridSearchCV(pipeline, {"logisticregression__C": [1]}, cv=2, scoring="recall")
    attributes = told(recall.fit(features, target))
    assert attributes["accuracy"] is None
    assert attributes["metrics"] == {"best_score": recall.best_score_}
    attributes = told(search, metrics={"accuracy": 0.5, "best_score": 0.25}, features=("a", "b"))
    assert attributes["accuracy"] == 0.5
    assert attributes["metrics"] == {"accuracy": 0.5, "best_score": 0.25}
    assert attributes["features"] == ["a", "b"]

    # Of several scores, whichever has chosen the best.
    grid = {"logisticregression__C": [1e-9, 1]}
    pair, named = ["f1", "accuracy"], {"right": "accuracy", "f1": "f1"}
    choices: list[tuple[Any, Any, str | None]] = [
        (pair, "accuracy", "accuracy"),
        (pair, "f1", "accuracy"),
        (named, "right", "right"),
        (["f1", "recall"], "f1", None),
    ]
    for scoring, refit, accuracy in choices:
        several = GridSearchCV(pipeline, grid, scoring=scoring, refit=refit, cv=2)
        several.fit(features, target)
        scores: Any = several.cv_results_
        wanted = accuracy and scores[f"mean_test_{accuracy}"][several.best_index_]
        assert told(several)["accuracy"] == wanted, (scoring, refit)

    line = LinearRegression().fit(features.to_numpy(), features["cycle_time"])
    attributes = told(line)
    assert (attributes["accuracy"], attributes["metrics"]) == (None, {})
    assert attributes["features"] == ["x0", "x1", "x2"]
    clusters = KMeans(2, n_init="auto", random_state=0).fit(features)
    assert told(clusters)["metrics"] == {"inertia": clusters.inertia_}
    assert len(handed_back(results)) == 10


def test_models_that_are_refused_leave_nothing(results: Path) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    features, target = customers()
    client = ProcessMiningClient()
    with pytest.raises(NotFittedError):
        client.save_model(LogisticRegression(), "m")
    fitted = LogisticRegression().fit(features, target)
    with pytest.raises(ValueError, match="'f1' is nan"):
        client.save_model(fitted, "m", metrics={"f1": float("nan")})
    worst: Any = {"f1": "good"}
    with pytest.raises(TypeError, match="'f1' must be a number, and is a str"):
        client.save_model(fitted, "m", metrics=worst)
    secret = make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression())
    with pytest.raises(ValueError, match="Pipeline cannot be pickled"):
        client.save_model(secret.fit(features, target), "m")
    assert handed_back(results) == []


def test_a_model_of_another_kind_is_kept_as_a_pickle(results: Path) -> None:
    client = ProcessMiningClient()
    client.save_model({"a": [1, 2]}, metrics={"lift": 2})
    (told,) = handed_back(results)
    assert told["name"] == "dict"
    assert [file["role"] for file in told["files"]] == ["model"]
    assert told["attributes"]["features"] == []
    assert told["attributes"]["metrics"] == {"lift": 2.0}


class Endless:
    """One that answers every name with another of its kind."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Endless()


@pytest.mark.parametrize("kind", ["Odd", "Unsure", "Endless", "nothing", "text"])
def test_models_that_tell_nothing_of_themselves_are_kept(results: Path, kind: str) -> None:
    from support.estimators import Odd, Unsure

    odd: object = {
        "Odd": Odd().fit(),
        "Unsure": Unsure().fit(),
        "Endless": Endless(),
        "nothing": None,
        "text": "text",
    }[kind]
    attributes = ProcessMiningClient().save_model(odd, metrics={"lift": 2}).attributes
    assert attributes["modelType"] == type(odd).__name__
    assert (attributes["features"], attributes["accuracy"]) == ([], None)
    assert attributes["metrics"] == {"lift": 2.0}
    (told,) = handed_back(results)
    back = pickle.loads((results / told["files"][0]["path"]).read_bytes())  # noqa: S301
    assert type(back) is type(odd)


def test_why_a_model_cannot_be_pickled_is_said(results: Path) -> None:
    class Stubborn:
        def __getstate__(self) -> object:
            raise RuntimeError("it holds a connection")

    with pytest.raises(ValueError, match="Stubborn cannot be pickled: it holds a connection"):
        ProcessMiningClient().save_model(Stubborn())
    assert handed_back(results) == []


def unchanged(rows: Any) -> Any:
    return rows


def test_a_model_that_only_its_notebook_can_load_is_warned_of(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from support.estimators import Rule

    client = ProcessMiningClient()
    client.save_model(Rule().fit())  # of a module, from which it loads elsewhere
    main: Any = sys.modules["__main__"]
    monkeypatch.setattr(Rule, "__module__", "__main__")
    monkeypatch.setattr(main, "Rule", Rule, raising=False)
    monkeypatch.setattr(unchanged, "__module__", "__main__")
    monkeypatch.setattr(main, "unchanged", unchanged, raising=False)
    pipeline = make_pipeline(FunctionTransformer(unchanged), Rule()).fit([[1.0]])
    with pytest.warns(UserWarning, match="saved without Rule, unchanged, which") as warned:
        client.save_model(pipeline)
    assert [each.filename for each in warned] == [__file__], "it is shown beside the cell"
    assert len(handed_back(results)) == 2
    assert isinstance(pickle.loads((results / "000002-model.pkl").read_bytes())[-1], Rule)  # noqa: S301


@pytest.mark.parametrize(
    ("text", "form", "title"),
    [
        ("<!---->" * 20_000 + "plain", "text", "Report"),
        ("<!-- " * 20_000, "text", "Report"),
        ("<!-- a --> <!-- b -->\n<h1>Found</h1>", "html", "Found"),
        ("<p>" + "<h1>" * 50_000, "html", "Report"),
        ("<p>" + "<h1 " * 50_000, "html", "Report"),
        ("<h1>" + "<" * 200_000 + "Found</h1>", "html", "<" * 200),
        ("<h1>open <h2 class='a'>Found</H2>", "html", "Found"),
        ("# a" + " #" * 100_000 + "b", "markdown", ("a" + " #" * 200)[:200]),
        ("[" * 200_000, "text", "Report"),
        ("[a](" * 50_000, "markdown", "Report"),
        ("see [this](http://example.test/a_(b))", "markdown", "Report"),
    ],
    ids=itertools.count(),
)
@pytest.mark.timeout(20)
def test_no_text_takes_long_to_be_seen_through(text: str, form: str, title: str) -> None:
    began = process_time()
    made = reports.make(text, None)
    assert process_time() - began < 2
    assert (made.format, made.title) == (form, title)


@pytest.mark.parametrize(
    ("given", "title", "form", "called", "media_type"),
    [
        ("<!DOCTYPE html><title>A &lt; B</title>", None, "html", "A < B", "text/html"),
        ("<section><h1>Slow <i>cases</i></h1></section>", None, "html", "Slow cases", "text/html"),
        ("<p>none</p>", None, "html", "Report", "text/html"),
        ("<p>none</p>", "Mine", "html", "Mine", "text/html"),
        ("1 < 2, and so on", None, "text", "Report", "text/plain"),
        ("Intro\n\n## What we found ##\n", None, "markdown", "What we found", "text/markdown"),
        (b"%PDF-1.7\n", "Paper", "pdf", "Paper", "application/pdf"),
        (pd.DataFrame({"a": [1]}), "Table", "html", "Table", "text/html"),
    ],
)
def test_reports(  # noqa: PLR0917
    results: Path, given: object, title: str | None, form: str, called: str, media_type: str
) -> None:
    ProcessMiningClient().save_report(given, title)
    (told,) = handed_back(results)
    assert told["kind"] == "report"
    assert told["name"] == called
    assert told["attributes"] == {"format": form, "title": called}
    assert [(file["mediaType"], file["role"]) for file in told["files"]] == [(media_type, "report")]
    if isinstance(given, str):
        assert (results / told["files"][0]["path"]).read_text() == given


def test_reports_that_are_files(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("paper.pdf").write_bytes(b"%PDF-1.7\n")
    Path("page.html").write_text("<h1>Page</h1>")
    Path("data.xlsx").write_bytes(b"")
    Path("other.pdf").write_bytes(b"no")
    Path("of two words.md").write_text("# Two")
    client = ProcessMiningClient()
    assert client.save_report("paper.pdf").name == "paper"
    assert client.save_report(Path("page.html")).name == "Page"
    assert client.save_report("of two words.md\n").name == "Two"
    assert client.save_report(str(tmp_path / "page.html")).name == "Page"
    forms = [each["attributes"]["format"] for each in handed_back(results)]
    assert forms == ["pdf", "html", "markdown", "html"]
    for wrong, error, reason in (
        (Path("missing.pdf"), FileNotFoundError, "missing"),
        ("missing.html", FileNotFoundError, "missing.html"),
        ("MISSING.MD\n", FileNotFoundError, "MISSING.MD"),
        ("./no report.txt", FileNotFoundError, "no report.txt"),
        (str(tmp_path / "no report.txt"), FileNotFoundError, "no report.txt"),
        ("/etc/passwd", ValueError, "its name must end in"),
        ("data.xlsx", ValueError, "its name must end in"),
        (Path("data.xlsx"), ValueError, "its name must end in"),
        ("other.pdf", ValueError, "no PDF"),
        ("  ", ValueError, "empty"),
        (7, TypeError, "no int"),
    ):
        with pytest.raises(error, match=reason):
            client.save_report(wrong)
    assert len(handed_back(results)) == 4


@pytest.mark.parametrize(
    "text",
    [
        "All of it is in report.html",
        "of two words.md",
        "Done.",
        "OK",
        "99.5",
        "slow/fast",
        "// none",
        "/ means per, and no folder",
        "a line\nand/report.md",
        "long " * 80 + "report.md",
    ],
)
def test_texts_that_are_no_paths(
    results: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved = ProcessMiningClient().save_report(text)
    assert saved.attributes["format"] == "text"
    assert (results / "000001-report.txt").read_text() == text


def test_metrics(results: Path) -> None:
    client = ProcessMiningClient()
    for step in range(3):
        client.log_metric("loss", 1 / (step + 1))
        client.log_metric("cases", np.int64(step))
        client.log_metric("share", Decimal("0.5"))
        client.log_metric("area", np.array([[step]]))
    # Of another cell.
    ProcessMiningClient().log_metric("loss", 0.25)
    told = handed_back(results)
    assert {each["name"]: each["attributes"]["value"] for each in told} == {
        "loss": 0.25,
        "cases": 2,
        "share": 0.5,
        "area": 2,
    }
    assert all(each["files"] == [] for each in told)
    assert len(told) == 4, "a metric logged in a loop is one result"
    for wrong, error in (
        (float("inf"), ValueError),
        (10**400, ValueError),
        ("1", TypeError),
        (np.bool_(1), TypeError),
    ):
        value: Any = wrong
        with pytest.raises(error, match="loss"):
            client.log_metric("loss", value)
    for name in ("", " ", "n" * 201, "a\nb"):
        with pytest.raises(ValueError, match="name"):
            client.log_metric(name, 1)
    assert len(handed_back(results)) == 4


def test_results_that_come_at_once_each_get_a_number(results: Path) -> None:
    # Each with a client of its own, as from processes that cells start.
    with ThreadPoolExecutor(8) as pool:
        saved = list(
            pool.map(
                lambda at: ProcessMiningClient().save_report(f"text {at}", f"r{at}"), range(64)
            )
        )
    told = handed_back(results)
    assert len(told) == len(saved) == 64
    for each in told:
        (file,) = each["files"]
        assert (results / file["path"]).read_text() == f"text {each['name'][1:]}"


def test_nothing_is_left_where_writing_fails(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fail)
    with pytest.raises(OSError, match="No space"):
        ProcessMiningClient().save_enriched_dataset(sample_event_log(2), "log")
    assert list(results.iterdir()) == []


def test_names_stay_what_they_are_and_file_names_are_tame(results: Path) -> None:
    ProcessMiningClient().save_report("text", "../Rückläufe: 2024/Q1 ")
    (told,) = handed_back(results)
    assert told["name"] == "../Rückläufe: 2024/Q1"
    assert told["files"][0]["fileName"] == "Rückläufe_2024_Q1.txt"


def test_space_around_a_name_is_no_part_of_it(results: Path) -> None:
    client = ProcessMiningClient()
    client.save_enriched_dataset(pl.DataFrame({"a": [1]}), " log\n")
    client.save_report("text", "\tReport ")
    client.save_model({"a": 1}, "model\n")
    client.log_metric("loss\n", 1)
    client.log_metric("loss", 2)
    log, report, model, loss = handed_back(results)
    assert log["name"] == log["attributes"]["datasetName"] == "log"
    assert report["name"] == report["attributes"]["title"] == "Report"
    assert (model["name"], loss["name"], loss["attributes"]["value"]) == ("model", "loss", 2)


@pytest.mark.parametrize("given", [5, 0, True, ["a"], {}])
def test_a_dataset_is_named_by_a_text(results: Path, given: object) -> None:
    told = {"datasetBinding": BOUND, "parameters": {"dataset_id": given}}
    (results.parent / "run.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="parameter dataset_id must be") as raised:
        ProcessMiningClient()
    assert str(raised.value).endswith(f" and is {given!r}.")


@pytest.mark.parametrize("given", [None, ""])
def test_where_the_parameter_is_empty_the_binding_counts(results: Path, given: object) -> None:
    told = {"datasetBinding": BOUND, "parameters": {"dataset_id": given}}
    (results.parent / "run.json").write_text(json.dumps(told))
    assert ProcessMiningClient().dataset_id == BOUND


def test_outside_a_run_results_are_files_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NBLEDGER_RUN_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("loans.csv").write_text("case_id,amount\na,1\n")
    client = ProcessMiningClient()
    frame = client.load_dataset("loans", engine="polars").with_columns(late=True)
    attributes = client.save_enriched_dataset(frame, source="loans").attributes
    assert attributes["newColumns"] == ["late"]
    assert "sourceDatasetId" not in attributes
    assert len(handed_back(tmp_path / "results")) == 1
