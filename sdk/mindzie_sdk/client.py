"""The client that a notebook's cells use."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, overload

from mindzie_sdk import models, reports
from mindzie_sdk.results import Part, Result, Role, hand_back, tidy
from mindzie_sdk.run import Dataset, DatasetUnavailableError, current_run
from mindzie_sdk.sample import COLUMNS, sample_event_log

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from mindzie_sdk.frames import Engine, FileFormat, Frame

_MEDIA_TYPE = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv"}
_FILE_SUFFIXES = (".parquet", ".csv")


class ProcessMiningClient:
    """The data of a notebook's run, and the way to hand back what comes out of it.

    It needs no argument, no network and no secret. Outside a run of the service it works on files
    in the current folder: datasets are read from there, and results go into ``results/``.

    Raises ValueError where the run's parameter ``dataset_id`` is no text.

    >>> client = ProcessMiningClient()
    >>> log = client.load_sample_log(cases=100)
    >>> log["large"] = log["amount"] > 15_000
    >>> client.save_enriched_dataset(log, "loans")
    <enriched dataset 'loans': 000001-data.csv, 000001-table.parquet>
    """

    def __init__(self) -> None:
        self._run = current_run()
        given = self.parameters.get("dataset_id")
        if given is not None and not isinstance(given, str):
            raise ValueError(
                f"The parameter dataset_id must be the id of a dataset, as text, and is {given!r}."
            )
        self.dataset_id: str | None = given or self._run.dataset_binding
        """The dataset of this run: its parameter ``dataset_id``, or the notebook's binding."""
        self._loaded: dict[str, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"ProcessMiningClient(dataset_id={self.dataset_id!r})"

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that this run was given.

        >>> ProcessMiningClient().parameters.get("analysis_period", "all of it")
        'all of it'
        """
        return dict(self._run.parameters)

    def load_sample_log(self, cases: int = 400) -> "pd.DataFrame":
        """A made-up event log of a loan process: the same one at every call.

        One row per event, with the columns ``case_id``, ``activity``, ``timestamp`` (UTC),
        ``resource`` and ``amount``; sorted by time within each case.

        >>> ProcessMiningClient().load_sample_log(cases=3)["case_id"].nunique()
        3
        """
        self._loaded.setdefault("", COLUMNS)
        return sample_event_log(cases)

    @overload
    def load_dataset(
        self, dataset_id: str | None = None, *, engine: Literal["pandas"] = "pandas"
    ) -> "pd.DataFrame": ...

    @overload
    def load_dataset(
        self, dataset_id: str | None = None, *, engine: Literal["polars"]
    ) -> "pl.DataFrame": ...

    def load_dataset(
        self, dataset_id: str | None = None, *, engine: "Engine" = "pandas"
    ) -> "pd.DataFrame | pl.DataFrame":
        r"""The rows of a dataset, by default the one of this run, as a frame of ``engine``.

        Outside a run of the service ``dataset_id`` names a Parquet or CSV file in the current
        folder, with or without its suffix.

        Raises :class:`DatasetUnavailableError` where there is no such dataset, and says what is
        missing.

        >>> _ = Path("loans.csv").write_text("case_id,amount\na,10\nb,20\n")
        >>> ProcessMiningClient().load_dataset("loans", engine="polars")["amount"].sum()
        30
        """
        from mindzie_sdk import frames  # noqa: PLC0415 (so that importing the package stays quick)

        if engine not in ("pandas", "polars"):
            raise ValueError(f'engine is "pandas" or "polars", and not {engine!r}.')
        wanted = dataset_id or self.dataset_id
        if wanted is None:
            raise DatasetUnavailableError(
                "This notebook is bound to no dataset, and none was named."
                if self._run.served
                else "Outside a run of the service no dataset is bound: name a Parquet or CSV file."
            )
        frame = frames.read(self._path_of(wanted))
        self._loaded.setdefault(wanted, tuple(frame.columns))
        return frames.to_pandas(frame) if engine == "pandas" else frame

    def save_enriched_dataset(
        self,
        frame: "Frame",
        name: str | None = None,
        format: "FileFormat | None" = None,  # noqa: A002 (what the service calls it)
        *,
        source: str | None = None,
    ) -> Result:
        """Hand back a data set with what the notebook has added to it.

        ``frame`` is of pandas or polars. ``format`` is ``"csv"``, which comes with a Parquet file
        that holds the types as well, or ``"parquet"`` alone; by default the latter where the
        notebook's output format asks for it. Its new columns are told against ``source``, the id
        of a dataset of the run: by default the run's own, or else the first that was loaded.
        Without ``name`` it is called after that, with ``_enriched``.

        Raises TypeError for what is no data frame, ValueError for a format that is none or two
        columns of one name.

        >>> import polars as pl
        >>> frame = pl.DataFrame({"case_id": ["a", "b"], "score": [0.5, 0.9]})
        >>> saved = ProcessMiningClient().save_enriched_dataset(frame, "scores", "csv")
        >>> saved.attributes["columns"]
        [{'name': 'case_id', 'type': 'string'}, {'name': 'score', 'type': 'number'}]
        """
        from mindzie_sdk import frames  # noqa: PLC0415

        chosen = format or ("parquet" if "parquet" in (self._run.output_format or "") else "csv")
        if chosen not in ("parquet", "csv"):
            raise ValueError(f'format is "parquet" or "csv", and not {chosen!r}.')
        rows = frames.to_polars(frame)
        origin, before = self._origin(source)
        called = tidy(name or f"{self._called(origin)}_enriched")
        attributes: dict[str, Any] = {
            "recordCount": rows.height,
            "columns": frames.columns_of(rows),
            "newColumns": [
                column for column in rows.columns if before is not None and column not in before
            ],
            "format": chosen,
            "frame": "pandas_dataframe" if frames.is_pandas(frame) else "polars_dataframe",
            "datasetName": called,
        }
        if origin is not None:
            attributes |= {"sourceDatasetId": origin.dataset_id, "sourceVersion": origin.version}
        roles: dict[Role, FileFormat] = {"data": chosen}
        if chosen != "parquet":
            roles["table"] = "parquet"
        parts = tuple(
            Part(
                role=role,
                suffix=f".{form}",
                media_type=_MEDIA_TYPE[form],
                write=partial(frames.write, rows, file_format=form),
            )
            for role, form in roles.items()
        )
        return self._hand_back("enriched_dataset", called, parts, attributes)

    def save_model(
        self,
        estimator: object,
        name: str | None = None,
        features: Iterable[str] | None = None,
        metrics: Mapping[str, SupportsFloat] | None = None,
        target: str | None = None,
    ) -> Result:
        """Hand back a fitted model, as a pickle and, where that can express it, as skops.

        Its type, features, accuracy and other metrics are recorded, as the estimator tells them
        or as given here. The type is that of the estimator which predicts: of a pipeline the last,
        of a search the best. ``accuracy`` is ``metrics["accuracy"]``, or what a classifier of
        scikit-learn has found out on rows that it was not fitted on (by cross-validation, or out
        of bag). Without ``name`` it is called after its type.

        Raises sklearn's NotFittedError for an estimator that is not fitted, and ValueError for
        what cannot be pickled and for a metric that is no finite number. Warns of a model with
        parts that the notebook defines itself, without which it loads nowhere else.

        >>> from sklearn.linear_model import LogisticRegression
        >>> model = LogisticRegression().fit([[1.0], [9.0]], ["kept", "lost"])
        >>> ProcessMiningClient().save_model(model, "churn", ["hours"], {"accuracy": 0.87})
        <model 'churn': 000001-model.pkl, 000001-skops.skops>
        """
        attributes = models.describe(estimator, features=features, metrics=metrics, target=target)
        binary = "application/octet-stream"
        pickled = Part("model", ".pkl", binary, partial(models.write_pickle, estimator))
        safe = Part(
            "skops", ".skops", binary, partial(models.write_skops, estimator), optional=True
        )
        called = tidy(name or str(attributes["modelType"]))
        return self._hand_back("model", called, (pickled, safe), attributes)

    def save_report(self, report: object, title: str | None = None) -> Result:
        """Hand back a report: HTML, Markdown or plain text, or the path of such a file or a PDF.

        What shows itself as HTML, such as a data frame, can be one as well. Without ``title`` it is
        called after its first heading, or its file. A text is a path where it is a single word that
        ends as such a file does, as in ``"loans.html"``, or begins as a path, as in ``"/tmp/x"``.

        Raises FileNotFoundError for a path at which nothing is, ValueError for a file of another
        form or an empty report, TypeError for anything else.

        >>> ProcessMiningClient().save_report("<h1>Loans</h1><p>Two of three are slow.</p>")
        <report 'Loans': 000001-report.html>
        """
        made = reports.make(report, title)
        called = tidy(made.title)
        part = Part(
            role="report",
            suffix=reports.SUFFIX[made.format],
            media_type=reports.MEDIA_TYPE[made.format],
            write=lambda path: path.write_bytes(made.content),
        )
        attributes = {"format": made.format, "title": called}
        return self._hand_back("report", called, (part,), attributes)

    def log_metric(self, name: str, value: SupportsFloat) -> Result:
        """Hand back a number of the run; of several under one name the last one counts.

        Raises TypeError for what is no number, ValueError for one that is not finite.

        >>> ProcessMiningClient().log_metric("slow cases", 0.25)
        <metric 'slow cases'>
        """
        return self._hand_back("metric", tidy(name), (), {"value": models.number(value, name)})

    @property
    def _hand_back(self) -> Callable[..., Result]:
        return partial(hand_back, self._run.results)

    def _path_of(self, dataset_id: str) -> Path:
        held = self._run.datasets.get(dataset_id)
        if held is not None:
            return held.path
        if self._run.served:
            raise DatasetUnavailableError(f"The service holds no dataset {dataset_id!r}.")
        named = Path(dataset_id)
        for path in (named, *(named.with_name(named.name + end) for end in _FILE_SUFFIXES)):
            if path.suffix in _FILE_SUFFIXES and path.is_file():
                return path
        raise DatasetUnavailableError(
            f"This is no run of the service, and the folder {Path.cwd()} holds no file "
            f"{dataset_id!r} that ends in {' or '.join(_FILE_SUFFIXES)}."
        )

    def _origin(self, source: str | None) -> tuple[Dataset | None, tuple[str, ...] | None]:
        """The dataset that was enriched, as far as the service holds it, and its columns."""
        held = self._run.datasets
        if source is not None and source not in held and source not in self._loaded:
            raise DatasetUnavailableError(f"This run has no dataset {source!r}.")
        candidates = [source] if source is not None else [self.dataset_id, *self._loaded]
        for each in candidates:
            if each in held:
                return held[each], held[each].columns
            if each in self._loaded:
                return None, self._loaded[each]
        return None, None

    @staticmethod
    def _called(origin: Dataset | None) -> str:
        return origin.name if origin is not None else "dataset"
