"""What is recorded of a fitted model, and the forms in which it is kept."""

import math
import numbers
import pickle
import platform
import sys
import warnings
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from types import FunctionType
from typing import IO, Any, SupportsFloat

_SCORES = {
    "best_score_": "best_score",
    "best_validation_score_": "best_validation_score",
    "inertia_": "inertia",
    "log_marginal_likelihood_value_": "log_marginal_likelihood",
    "loss_": "loss",
    "lower_bound_": "lower_bound",
    "oob_score_": "oob_score",
    "reconstruction_err_": "reconstruction_error",
}
"""Attributes in which scikit-learn's estimators keep how well they fit, and what that is called."""

_MOST_FEATURES = 10_000
_MOST_STEPS = 1000


def describe(
    estimator: object,
    *,
    features: Iterable[str] | None,
    metrics: Mapping[str, SupportsFloat] | None,
    target: str | None,
) -> dict[str, Any]:
    """Type, features, target, metrics, accuracy and libraries of a fitted estimator.

    What is given comes before what the estimator tells of itself. Raises sklearn's NotFittedError
    for an estimator of it that is not fitted, ValueError for a metric that is no finite number.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> tree = DecisionTreeClassifier().fit([[0], [1]], ["slow", "fast"])
    >>> told = describe(tree, features=["hours"], metrics={"accuracy": 1}, target="pace")
    >>> told["modelType"], told["features"], told["accuracy"]
    ('DecisionTreeClassifier', ['hours'], 1.0)
    """
    _require_fitted(estimator)
    told = {**_own_scores(estimator), **_numbers(metrics or {})}
    accuracy = told.get("accuracy", _own_accuracy(estimator))
    if accuracy is not None:
        told["accuracy"] = accuracy
    return {
        "modelType": type(_final(estimator)).__name__,
        "features": [str(name) for name in features]
        if features is not None
        else _own_features(estimator),
        "target": target,
        "metrics": told,
        "accuracy": accuracy,
        "libraries": _libraries(estimator),
    }


class _Pickler(pickle.Pickler):
    """Notes what it pickles by name alone of what the notebook itself defines."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, protocol=5)
        self.defined_here: set[str] = set()

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, type | FunctionType) and obj.__module__ == "__main__":
            self.defined_here.add(obj.__qualname__)
        return NotImplemented


def write_pickle(estimator: object, path: Path) -> None:
    """Pickle it. Raises ValueError, with the reason, for what cannot be pickled.

    Warns where it refers to what the notebook defines, which no pickle has in it.
    """
    try:
        with path.open("wb") as file:
            pickler = _Pickler(file)
            pickler.dump(estimator)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # parts of an estimator raise anything
        raise ValueError(f"This {type(estimator).__name__} cannot be pickled: {error}") from error
    if pickler.defined_here:
        warnings.warn(
            f"The model is saved without {', '.join(sorted(pickler.defined_here))}, which this "
            "notebook defines: it loads only where that is defined.",
            stacklevel=4,  # the cell
        )


def write_skops(estimator: object, path: Path) -> bool:
    """Write the form that is loaded without running code; False where there is none.

    That is so without skops, for what is no estimator of scikit-learn, and for parts that skops
    cannot express.
    """
    if not _is_sklearn(estimator):
        return False
    try:
        import skops.io  # noqa: PLC0415 (slow to import, and not everywhere)
    except ImportError:
        return False
    try:
        skops.io.dump(estimator, path)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - parts of an estimator raise anything
        return False
    return True


def number(value: object, name: str) -> int | float:
    """It as a number of JSON. Raises TypeError or ValueError, naming it, where it is none."""
    plain = value
    if not isinstance(plain, numbers.Real | Decimal) and getattr(value, "size", None) == 1:
        item = getattr(value, "item", None)  # an array of one, or a scalar of numpy
        plain = item() if callable(item) else value
    if isinstance(plain, bool) or not isinstance(plain, numbers.Real | Decimal):
        raise TypeError(f"{name!r} must be a number, and is a {type(value).__name__}.")
    try:
        finite = math.isfinite(plain)
    except OverflowError:
        raise ValueError(f"{name!r} is too large a number.") from None
    if not finite:
        raise ValueError(f"{name!r} is {plain}, which is no finite number.")
    return int(plain) if isinstance(plain, numbers.Integral) else float(plain)


def _numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    return {str(name): float(number(value, str(name))) for name, value in metrics.items()}


def _require_fitted(estimator: object) -> None:
    if _is_sklearn(estimator):
        from sklearn.exceptions import NotFittedError  # noqa: PLC0415
        from sklearn.utils.validation import check_is_fitted  # noqa: PLC0415

        try:
            check_is_fitted(estimator)
        except NotFittedError:
            raise
        except Exception:  # noqa: BLE001, S110 - one that cannot tell may well be fitted
            pass


def _is_sklearn(estimator: object) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(estimator, base.BaseEstimator)


def _of(estimator: object, attribute: str) -> Any:
    """What the estimator tells by this name; None where it has none, or cannot tell."""
    try:
        return getattr(estimator, attribute, None)
    except Exception:  # noqa: BLE001 - properties raise anything
        return None


def _steps(estimator: object) -> list[object]:
    """The estimator, and those that it is made of: a search's best, all of a pipeline."""
    found: list[object] = []
    left = [estimator]
    # What refers to itself is met once; what answers any name with something new, has an end.
    while left and len(found) < _MOST_STEPS:
        each = left.pop()
        if any(each is one for one in found):
            continue
        found.append(each)
        best, steps = _of(each, "best_estimator_"), _of(each, "steps")
        parts = [] if best is None else [best]
        if isinstance(steps, list):
            parts += [step[-1] if isinstance(step, tuple) and step else step for step in steps]
        left += reversed(parts)
    return found


def _final(estimator: object) -> object:
    """The estimator that predicts: the best one of a search, the last one of a pipeline."""
    made_of = [each for each in _steps(estimator) if not isinstance(each, str | None)]
    return made_of[-1] if made_of else estimator


def _own_features(estimator: object) -> list[str]:
    names = _of(estimator, "feature_names_in_")
    if names is not None:
        try:
            return [str(name) for name in names]
        except Exception:  # noqa: BLE001 - as above
            return []
    count = _of(estimator, "n_features_in_")
    if isinstance(count, numbers.Integral) and int(count) <= _MOST_FEATURES:
        return [f"x{at}" for at in range(int(count))]  # what scikit-learn calls them
    return []


def _own_scores(estimator: object) -> dict[str, float]:
    found = {}
    for each in (_final(estimator), estimator):
        for attribute, name in _SCORES.items():
            value = _of(each, attribute)
            try:
                found[name] = float(number(value, name))
            except Exception:  # noqa: BLE001, S112 - whatever it is, it is no score
                continue
    return found


def _own_accuracy(estimator: object) -> float | None:
    """The share of right answers on rows that the model was not fitted on, if it kept that."""
    if not _classifies(estimator):
        return None
    scores = _own_scores(estimator)
    searched = _searched_accuracy(estimator)
    if searched is not None:
        return searched
    if "oob_score" in scores and _of(_final(estimator), "oob_score") is True:
        return scores["oob_score"]
    return None


def _searched_accuracy(search: Any) -> float | None:
    """Of the best that a search has found, by cross-validation, if accuracy is among its scores.

    It is the score of a classifier by default. Where there are several, another may have chosen
    the best.
    """
    try:
        scoring = search.scoring
        if scoring is None or isinstance(scoring, str):
            score = search.best_score_ if scoring in (None, "accuracy") else None
        else:
            scorers = scoring if isinstance(scoring, Mapping) else {name: name for name in scoring}
            called = next(name for name, scorer in scorers.items() if scorer == "accuracy")
            score = search.cv_results_[f"mean_test_{called}"][search.best_index_]
        return float(number(score, "accuracy"))
    except Exception:  # noqa: BLE001 - whatever it is, it has no such score
        return None


def _classifies(estimator: object) -> bool:
    if not _is_sklearn(estimator):
        return False
    from sklearn.base import is_classifier  # noqa: PLC0415

    try:
        return bool(is_classifier(estimator))
    except Exception:  # noqa: BLE001 - its tags raise anything
        return False


def _libraries(estimator: object) -> dict[str, str]:
    """What must be there to load it, as far as its own types and those of its steps tell."""
    tops = {
        kind.__module__.partition(".")[0]
        for each in _steps(estimator)
        for kind in type(each).__mro__
    }
    if "sklearn" in tops:
        tops.add("numpy")
    versions = {
        {"sklearn": "scikit-learn"}.get(top, top): str(sys.modules[top].__version__)
        for top in sorted(tops)
        if hasattr(sys.modules.get(top), "__version__")
    }
    return {"python": platform.python_version(), **versions}
