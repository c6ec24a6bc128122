"""From pandas to polars and back, without loss."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mindzie_sdk import frames

NOON = datetime(2024, 3, 31, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def everything() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "text": ["a", None, ""],
            "whole": [1, 2, -3],
            "whole_or_none": [1, None, 3],
            "huge_or_none": [2**62 + 1, None, 0],
            "huge": pl.Series([2**64 - 1, 0, 1], dtype=pl.UInt64),
            "real": [1.5, None, -0.0],
            "flag": [True, False, True],
            "flag_or_none": [True, None, False],
            "utc": [NOON, None, NOON],
            "berlin": [NOON.astimezone(BERLIN), None, NOON.astimezone(BERLIN)],
            "naive": [NOON.replace(tzinfo=None), None, None],
            "span": [timedelta(hours=1), None, timedelta(microseconds=1)],
            "kind": pl.Series(["x", None, "y"], dtype=pl.Categorical),
            "clock": [time(3), None, time(4, 5, 6)],
            "price": [Decimal("1.10"), None, Decimal("2.20")],
            "many": [[1, 2], None, []],
            "raw": [b"\x00", None, b"x"],
            "nothing": pl.Series([None, None, None], dtype=pl.String),
        }
    )


def test_there_and_back() -> None:
    frame = everything()
    there = frames.to_pandas(frame)
    assert len(there) == 3
    back = frames.to_polars(there)
    for name in frame.columns:
        wanted = frame[name]
        if wanted.dtype == pl.Categorical:
            wanted = wanted.cast(pl.String)
        if name == "whole_or_none":  # as everywhere in pandas
            wanted = wanted.cast(pl.Float64)
        assert back[name].to_list() == wanted.to_list(), name
        if name != "price":
            assert back[name].dtype == wanted.dtype, name


def test_pandas_gets_the_types_that_it_has_itself() -> None:
    types = {name: str(dtype) for name, dtype in frames.to_pandas(everything()).dtypes.items()}
    assert types == {
        "text": "str",
        "whole": "int64",
        "whole_or_none": "float64",
        "huge_or_none": "Int64",
        "huge": "uint64",
        "real": "float64",
        "flag": "bool",
        "flag_or_none": "boolean",
        "utc": "datetime64[us, UTC]",
        "berlin": "datetime64[us, Europe/Berlin]",
        "naive": "datetime64[us]",
        "span": "timedelta64[us]",
        "kind": "category",
        "clock": "object",
        "price": "object",
        "many": "object",
        "raw": "object",
        "nothing": "str",
    }
    days = frames.to_pandas(pl.DataFrame({"day": [date(2024, 2, 29), None]}))["day"]
    assert days.dt.day.iloc[0] == 29
    assert pd.isna(days.iloc[1])


@pytest.mark.parametrize(
    ("cells", "wanted", "type_name"),
    [
        (pd.array([1, None], dtype="Int32"), [1, None], "integer"),
        (pd.array([None, None], dtype="Float64"), [None, None], "number"),
        (pd.array([True, None], dtype="boolean"), [True, None], "boolean"),
        (np.array([1, 2], dtype="int8"), [1, 2], "integer"),
        (np.array(["2024-01-01", "NaT"], dtype="M8[s]"), [datetime(2024, 1, 1), None], "datetime"),  # noqa: DTZ001
        (pd.Categorical(["a", None]), ["a", None], "string"),
        (pd.Categorical([3, None]), [3, None], "integer"),
        (pd.arrays.SparseArray([0, 5]), [0, 5], "integer"),
        ([1, "a"], ["1", "a"], "string"),
        ([1, 2.5], [1.0, 2.5], "number"),
        (pd.Series([1, 2.5], dtype=object), [1.0, 2.5], "number"),
        ([None, None], [None, None], "string"),
        ([date(2024, 1, 1), None], [date(2024, 1, 1), None], "date"),
        ([date(2024, 1, 1), pd.NaT], [date(2024, 1, 1), None], "date"),
        (pd.Categorical([date(2024, 1, 1), None]), [date(2024, 1, 1), None], "date"),
        (pd.to_datetime(["2024-01-01"]), [datetime(2024, 1, 1)], "datetime"),  # noqa: DTZ001
        ([UUID(int=1), UUID(int=2)], [str(UUID(int=1)), str(UUID(int=2))], "string"),
        (pd.period_range("2024-01", periods=2, freq="M"), ["2024-01", "2024-02"], "string"),
        ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2}], "other"),
        ([{"a": 1, "b": 2}, {"a": 3}], [{"a": 1, "b": 2}, {"a": 3, "b": None}], "other"),
        ([(1, 2), np.array([3]), [float("nan")]], ["[1, 2]", "[3]", "[NaN]"], "string"),
        ([np.array([1.5]), (2.0,)], [[1.5], [2.0]], "other"),
        ([1 + 2j, None], ["(1+2j)", None], "string"),
        (np.array([1.5, 2], dtype="float16"), [1.5, 2.0], "number"),
        (np.array([1.5, float("nan")], dtype="longdouble"), [1.5, None], "number"),
        ([2**64, None, -1], [2**64, None, -1], "integer"),
        ([2**127 - 1, None], [str(2**127 - 1), None], "string"),
        ([2**200, 1], [str(2**200), "1"], "string"),
        (["a\ud800"], ["a\\ud800"], "string"),
        (
            pd.Series([NOON, NOON]).dt.tz_convert(timezone(timedelta(hours=2))),
            [NOON, NOON],
            "datetime",
        ),
    ],
)
def test_what_pandas_holds(cells: Any, wanted: list[Any], type_name: str) -> None:
    frame = frames.to_polars(pd.DataFrame({"c": cells}))
    assert frame["c"].to_list() == wanted
    assert frames.columns_of(frame) == [{"name": "c", "type": type_name}]


def test_days_are_saved_as_dates(tmp_path: Path) -> None:
    times: Any = frames.to_pandas(pl.DataFrame({"at": [date(2024, 1, 31), None]}))["at"]
    frame = frames.to_polars(pd.DataFrame({"day": times.dt.date, "at": times}))
    assert frames.columns_of(frame) == [
        {"name": "day", "type": "date"},
        {"name": "at", "type": "datetime"},
    ]
    frames.write(frame, tmp_path / "days.csv", "csv")
    assert (tmp_path / "days.csv").read_text().splitlines()[1].startswith("2024-01-31,2024-01-31T")
    grouped: Any = pd.DataFrame({"day": times.dt.date, "n": [1, 2]}).groupby("day").sum()
    assert frames.to_polars(grouped).schema["day"] == pl.Date


def test_labels_and_indexes() -> None:
    log: Any = pd.DataFrame({"case_id": ["b", "a", "b"], "n": [1, 2, 3]})
    assert frames.to_polars(log[log["n"] > 1]).to_dict(as_series=False) == {
        "case_id": ["a", "b"],
        "n": [2, 3],
    }
    grouped = log.groupby("case_id").agg({"n": ["min", "max"]})
    assert frames.to_polars(grouped).to_dict(as_series=False) == {
        "case_id": ["a", "b"],
        "n_min": [2, 1],
        "n_max": [2, 3],
    }
    kept = log.set_index("case_id", drop=False)
    assert frames.to_polars(kept).columns == ["case_id", "n"]
    levels = log.set_index(["case_id", pd.Index([7, 8, 9])])
    assert frames.to_polars(levels).columns == ["case_id", "n"]
    assert frames.to_polars(pd.DataFrame([[1]])).columns == ["0"]
    with pytest.raises(ValueError, match="Two columns are called 'n'"):
        frames.to_polars(pd.concat([log, log[["n"]]], axis=1))


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        ([{"x": 1}] * 3 + [{"x": 2, "y": "s"}], ['{"x": 1}'] * 3 + ['{"x": 2, "y": "s"}']),
        ([[{"x": 1}], [{"x": 2, "y": 3}]], ['[{"x": 1}]', '[{"x": 2, "y": 3}]']),
        ([{"a": {"b": 1}}, {"a": {"c": 2}}], ['{"a": {"b": 1}}', '{"a": {"c": 2}}']),
        ([[1], [2.5]], ["[1]", "[2.5]"]),
        ([{"x": np.int64(1)}, None, {"y": b"a"}], ['{"x": 1}', None, '{"y": "61"}']),
        ([{(1, 2): 3}, {"x": 1}], ["{(1, 2): 3}", '{"x": 1}']),
        ([{}, {}], ["{}", "{}"]),
        ([[{}], []], ["[{}]", "[]"]),
        ([Decimal("1.123456789"), Decimal("1e30")], ["1.123456789", "1E+30"]),
        ([NOON, NOON.replace(tzinfo=None)], [str(NOON), str(NOON.replace(tzinfo=None))]),
    ],
)
def test_nothing_is_lost_that_a_column_does_not_hold_whole(
    cells: list[Any], wanted: list[Any], tmp_path: Path
) -> None:
    frame = frames.to_polars(pd.DataFrame({"c": pd.Series(cells, dtype=object)}))
    assert frame["c"].to_list() == wanted
    frames.write(frame, tmp_path / "c.parquet", "parquet")
    assert pl.read_parquet(tmp_path / "c.parquet").equals(frame)


def test_types_of_polars_that_files_do_not_hold(tmp_path: Path) -> None:
    large = 2**70
    frame = frames.to_polars(
        pl.DataFrame(
            {
                "hollow": [{}, None],
                "large": pl.Series([large, None], dtype=pl.Int128),
                "half": pl.Series([1.5, None], dtype=pl.Float16),
                "object": pl.Series([UUID(int=1), None], dtype=pl.Object),
            }
        )
    )
    frames.write(frame, tmp_path / "c.parquet", "parquet")
    back = frames.to_pandas(frames.read(tmp_path / "c.parquet"))
    assert back["large"].tolist() == [Decimal(large), None]
    assert back["hollow"].iloc[0] == "{}"
    assert back["half"].iloc[0] == 1.5
    assert back["object"].iloc[0] == str(UUID(int=1))
    wide = pl.DataFrame({"large": pl.Series([large, None], dtype=pl.Int128)})
    assert frames.to_pandas(wide)["large"].tolist() == [large, None]


def test_index_levels_beside_columns_of_their_name() -> None:
    same = pd.DataFrame({"0": [7, 8], "n": [1, 2]}, index=pd.Index([7, 8]).set_names([0]))
    assert frames.to_polars(same).to_dict(as_series=False) == {"0": [7, 8], "n": [1, 2]}
    with pytest.raises(ValueError, match="Two columns are called '0'"):
        frames.to_polars(same.assign(**{"0": [9, 9]}))
    with pytest.raises(ValueError, match="Two columns are called 'n'"):
        frames.to_polars(same.rename_axis("n"))


def test_bytes_are_plain_hexadecimal_in_csv(tmp_path: Path) -> None:
    frames.write(pl.DataFrame({"raw": [b"\x00\xff", None, b"x"]}), tmp_path / "raw.csv", "csv")
    assert (tmp_path / "raw.csv").read_text() == "raw\n00ff\n\n78\n"


def test_what_is_no_frame() -> None:
    things: list[Any] = [[1], {"a": [1]}, None, pl.Series([1])]
    for thing in things:
        with pytest.raises(TypeError, match="data frame is needed"):
            frames.to_polars(thing)
    assert frames.to_polars(pl.LazyFrame({"a": [1]})).height == 1


def test_files_hold_what_was_written(tmp_path: Path) -> None:
    frame = everything()
    frames.write(frame, tmp_path / "all.parquet", "parquet")
    assert frames.read(tmp_path / "all.parquet").equals(frame)
    frames.write(frame, tmp_path / "all.csv", "csv")
    back = frames.read(tmp_path / "all.csv")
    assert back.columns == frame.columns
    for name in ("text", "whole", "whole_or_none", "huge_or_none", "real", "flag", "flag_or_none"):
        assert back[name].to_list() == frame[name].to_list(), name
    assert back["utc"].to_list() == frame["utc"].to_list()
    assert back["span"].to_list() == ["PT3600S", None, "PT0.000001S"]
    assert back["many"].to_list() == ["[1, 2]", None, "[]"]


def test_no_rows_and_no_columns() -> None:
    empty = frames.to_pandas(everything().clear())
    assert len(empty) == 0
    assert frames.to_polars(empty).columns == everything().columns
    assert frames.to_polars(pd.DataFrame()).shape == (0, 0)
    assert frames.to_pandas(pl.DataFrame()).shape == (0, 0)
