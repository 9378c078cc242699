"""Covariates: columns of the people table flow in; centred regressors, coded by the training people alone, flow out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from brainmt_align.data.phenotype_presets import require_columns
from brainmt_align.data.tables import holds_numbers
from brainmt_align.listing import some

MISSING_RULES = ("error", "mean")
NOTHING_LEFT = 1e-6  # share of a target's variance that covariates leave when they are taken to be the target itself


@dataclass(frozen=True)
class ColumnCoding:
    """How one column becomes regressors: a number is standardised, a category has a regressor a level, less its share.

    Attributes:
        name: of the column.
        levels: of a category, sorted; empty for a number.
        centre: mean of each regressor over the training people (1 for a number, as many as levels otherwise).
        scale: SD of a number over the training people, 1 for a constant; 1 for categories.
    """

    name: str
    levels: tuple[str, ...]
    centre: tuple[float, ...]
    scale: float


@dataclass(frozen=True)
class CovariateCoding:
    """Coding of several columns; everything in it comes from the training people."""

    columns: tuple[ColumnCoding, ...]
    missing: str

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def encode(self, people: pd.DataFrame) -> np.ndarray:
        """(N, K) float64 regressors with mean 0 over the training people; a level that they lack counts as their mean.

        Args:
            people: one row a person, with subject_id and the columns.

        Raises:
            ValueError: a column is missing or holds text where the training people have numbers, or, under the rule "error",
                people without a value.
        """
        _check_columns(people, self.names)
        if self.missing == "error":
            _check_complete(people, self.names)
        return np.concatenate([np.empty((len(people), 0)), *(_encode(people, column) for column in self.columns)], axis=1)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `covariates_from_json` reads it."""
        return asdict(self)


def covariates_from_json(content: dict[str, Any]) -> CovariateCoding:
    """The coding that `to_json` wrote."""
    columns = [{**each, "levels": tuple(each["levels"]), "centre": tuple(each["centre"])} for each in content["columns"]]
    return CovariateCoding(tuple(ColumnCoding(**each) for each in columns), content["missing"])


def fit_covariates(
    people: pd.DataFrame, columns: Sequence[str], missing: str = "error", categories: Sequence[str] = ()
) -> CovariateCoding:
    """Learn the coding of columns from the training people.

    Args:
        people: the training people, one row each, with subject_id.
        columns: numbers are standardised; anything else, booleans too, is a category.
        missing: "error", or "mean": the training mean (of a category: the training shares) stands for a missing value.
        categories: columns that are categories though they hold numbers, such as a site's code.

    Raises:
        ValueError: an unknown column, people without a value under "error", a column without any value, an unknown rule.
    """
    if missing not in MISSING_RULES:
        raise ValueError(
            f"Covariates: the rule for missing values must be one of {', '.join(MISSING_RULES)}, got {missing!r}.\n"
            "  fix: set phenotype.missing_covariates=error."
        )
    _check_columns(people, columns)
    empty = [name for name in columns if people[name].isna().all()]
    if empty:
        raise ValueError(
            f"Covariates: values were expected, got none at all among {len(people)} training people in {some(empty)}.\n"
            "  where: phenotype.residualise\n  fix: fill the column or leave it out."
        )
    if missing == "error":
        _check_complete(people, columns)
    return CovariateCoding(tuple(_fit_column(people[name], name, name in categories) for name in columns), missing)


def regress_out(values_N: np.ndarray, covariates_NK: np.ndarray) -> np.ndarray:
    """(K,) least-squares slopes of a target on centred covariates, the smallest ones where they are not unique.

    Args:
        values_N: of the training people, none missing.
        covariates_NK: from `CovariateCoding.encode`.

    Raises:
        ValueError: as many free covariates as people, or covariates that are the target in other words.

    Reference:
        Snoek et al. 2019, NeuroImage 184: confounds are regressed out within the training fold.
    """
    centred_N, design_NK = values_N - values_N.mean(), covariates_NK - covariates_NK.mean(0)
    slopes_K, _, rank, _ = np.linalg.lstsq(design_NK, centred_N, rcond=None)
    if rank >= len(values_N) - 1:
        raise ValueError(
            f"Covariates: fewer than {len(values_N) - 1} were expected for {len(values_N)} people, got {rank} free ones.\n"
            "  where: phenotype.residualise\n  fix: name fewer covariates, or columns of fewer categories."
        )
    total = float(centred_N @ centred_N)
    left = float(((centred_N - design_NK @ slopes_K) ** 2).sum())
    if total > 0 and left <= NOTHING_LEFT * total:
        raise ValueError(
            "Covariates: a target with variance of its own was expected, got one that the covariates tell completely "
            f"(share left: {left / total:.1e}).\n  where: phenotype.residualise\n"
            "  fix: leave out the covariate that is the target in other words."
        )
    return slopes_K


def _fit_column(values: pd.Series, name: str, category: bool) -> ColumnCoding:
    if holds_numbers(values) and not category:
        numbers = values.astype(float)
        spread = float(numbers.std(ddof=0))
        return ColumnCoding(name, (), (float(numbers.mean()),), spread if spread > 0 else 1.0)
    shares = values.dropna().astype(str).value_counts(normalize=True).sort_index()
    return ColumnCoding(name, tuple(map(str, shares.index)), tuple(map(float, shares)), 1.0)


def _encode(people: pd.DataFrame, column: ColumnCoding) -> np.ndarray:
    values = people[column.name]
    if not column.levels:
        if not holds_numbers(values):
            raise ValueError(
                f"Covariates: numbers were expected in {column.name!r}, as among the training people; got text such as "
                f"{values.dropna().iloc[0]!r}.\n  where: the participants table\n  fix: write it as it was for the training."
            )
        return np.nan_to_num((values.astype(float).to_numpy() - column.centre[0]) / column.scale)[:, None]
    texts = values.astype(str).where(values.notna())
    known = texts.isin(column.levels).to_numpy()[:, None]
    indicators = np.stack([(texts == level).to_numpy() for level in column.levels], axis=1)
    return np.where(known, indicators - np.array(column.centre), 0.0)


def _check_columns(people: pd.DataFrame, columns: Sequence[str]) -> None:
    require_columns(people, columns)


def _check_complete(people: pd.DataFrame, columns: Sequence[str]) -> None:
    blank = {name: people.loc[people[name].isna(), "subject_id"].tolist() for name in columns}
    faults = [f"{name}: none for {len(ids)} of {len(people)}: {some(ids)}" for name, ids in blank.items() if ids]
    if faults:
        raise ValueError(
            "Covariates: a value for everyone was expected, got gaps:\n  - "
            + "\n  - ".join(faults)
            + "\n  where: the participants "
            "table\n  fix: fill them, drop the people, or set phenotype.missing_covariates=mean."
        )
