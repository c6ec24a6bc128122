"""Estimators of the kinds that notebooks define; apart, as scikit-learn takes long to import."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import BaseEstimator


class Odd(BaseEstimator):  # type: ignore[misc]
    """One whose properties fail, and that is its own best estimator."""

    def fit(self) -> Self:
        self.best_estimator_ = self
        return self

    @property
    def n_features_in_(self) -> int:
        raise RuntimeError("not now")

    feature_names_in_ = steps = best_score_ = scoring = oob_score = loss_ = n_features_in_

    def __sklearn_tags__(self) -> Any:
        raise RuntimeError("no tags")


class Unsure(Odd):
    """One that cannot even tell whether it is fitted."""

    def __sklearn_is_fitted__(self) -> bool:
        raise RuntimeError("who knows")


class Rule(BaseEstimator):  # type: ignore[misc]
    """One that a notebook defines."""

    def fit(self, *_: object) -> Self:
        self.fitted_ = True
        return self
