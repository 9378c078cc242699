"""Export for genetics tools: embeddings and the people table flow in; a phenotype file for PLINK 2 and REGENIE flows out.

N people, E embedding dimensions, K covariates, P phenotypes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from brainmt_align.atomic import write_atomically
from brainmt_align.data.tables import is_blank
from brainmt_align.listing import some

SMALLEST_LEFT = 1e-8  # share of a dimension's SD that is left where covariates tell it or it is constant
BLOM = 3 / 8  # offset of the rank-based inverse normal transformation
WARNINGS = (
    "Name the same covariates, and genetic principal components, in the association too: a genotype that correlates with a "
    "covariate is not residualised here, so that its effect comes out too small.",
    "Leave out people whose pairs of scan and genome trained the model: their embeddings have heard of their genotypes.",
)


class GeneticsExport(NamedTuple):
    """What was written."""

    phenotypes: Path
    description: Path  # JSON: what the phenotypes are
    names: tuple[str, ...]  # of the phenotypes, in the order of the columns
    people: int  # with values; the others' are NA


def export_phenotypes(
    z_NE: np.ndarray,
    people: pd.DataFrame,
    covariates_NK: np.ndarray | None,
    path: str | Path,
    *,
    prefix: str = "fmri",
    components: int | None = None,
    family_ids: Sequence[str] | None = None,
    inverse_normal: bool = False,
    about: Mapping[str, Any] | None = None,
) -> GeneticsExport:
    """Write embedding dimensions, or their leading principal components, as quantitative phenotypes of an association study.

    One tab-separated file that `plink2 --pheno` and `regenie --phenoFile` both read: header `FID IID fmri1 fmri2 …`, a row a
    person, NA where a person has no embedding. IID is `sample_id`, as in the genotype file. Both programs match FID and IID
    together:

    * `plink2 --vcf` gives everybody FID 0, and so does this file by default; files that `plink2 --vcf … --make-bed` or
      `--make-pgen psam-cols=+fid` makes keep it, so that REGENIE finds `0 <IID>` there.
    * `.fam`, `.psam` or `.bgen` samples with family ids of their own (often FID = IID, as `plink2 --double-id` makes): pass these
      as `family_ids`.

    The file is run through PLINK 2 in the tests; REGENIE's format is followed as documented, without a run.

    Dimensions are residualised on a constant and the covariates by least squares, then, where asked for, rotated to principal
    components, then scaled to SD 1 (effects are in SDs), or made normal by ranks. Two warnings:

    * Residualising beforehand is not the same as covariates in the association: the genotype is not residualised, so that effects
      of a genotype that correlates with a covariate (ancestry above all) shrink, and degrees of freedom are overstated by K. Name
      the covariates there as well. Ranks after residualising may bring a little of the covariates back.
    * People whose pairs trained the model must not be in the association: alignment drew their embeddings towards their own
      genotypes. Export held-out people, and keep training pairs apart by family.

    Args:
        z_NE: (N, E); a row that holds NaN is a person without an embedding.
        people: N rows in the same order with `sample_id`.
        covariates_NK: (N, K) as `CovariateCoding.encode` makes them, complete; None for none.
        path: of the phenotype file; its description is written beside it as `<path>.json`. The folder exists.
        prefix: phenotypes are called `<prefix>1`, `<prefix>2`, … (`<prefix>_pc1`, … for components); letters, digits and _.
        components: how many leading principal components, fewer where there are fewer; None exports every dimension.
        family_ids: (N,) FID of each person; None for 0.
        inverse_normal: rank-based inverse normal transformation with Blom's offset, ties at their average rank.
        about: JSON-ready facts for the description: the model's fingerprint, the covariates' coding, the split.

    Raises:
        ValueError: ids that are missing, blank, `0`, doubled or hold whitespace or a leading #, all faults listed; other numbers
            of rows; infinite values; incomplete covariates; as many covariates as people; dimensions that are constant or that
            the covariates tell; a prefix of other characters.

    Reference:
        PLINK 2 manual, "Phenotypes"; REGENIE documentation, "Phenotype file format"; McCaw et al. 2020 (ranks, direct and
        indirect); Day et al. 2016 (covariates that are heritable themselves).
    """
    path = Path(path)
    z_NE = _check_values(z_NE, people, covariates_NK)
    fids, iids = _check_ids(people, family_ids)
    _check_names(prefix, components)
    present_N = ~np.isnan(z_NE).any(1)
    residuals, rank = _residualise(z_NE[present_N], None if covariates_NK is None else np.asarray(covariates_NK)[present_N])
    shares = None
    if components is not None:
        residuals, shares = _principal(residuals, components)
    scales = residuals.std(0)
    values = _to_normal(residuals) if inverse_normal else residuals / scales
    names = [f"{prefix}{'' if components is None else '_pc'}{at}" for at in range(1, values.shape[1] + 1)]
    table = pd.DataFrame(np.nan, index=range(len(people)), columns=names)
    table.loc[present_N] = values
    table.insert(0, "FID", fids)
    table.insert(1, "IID", iids)
    description = {
        "format": "tab-separated FID, IID and one column a phenotype, NA where missing; plink2 --pheno and regenie --phenoFile",
        "phenotypes": names,
        "people": int(present_N.sum()),
        "people_without_embedding": int((~present_N).sum()),
        "family_ids": "0" if family_ids is None else "as given",
        "residualised_on": f"a constant and covariates of rank {rank - 1}, by least squares" if rank > 1 else "a constant",
        "principal_components_of": None if components is None else f"{z_NE.shape[1]} residualised dimensions",
        "variance_shares": None if shares is None else shares.tolist(),
        "scale": "rank-based inverse normal (Blom)" if inverse_normal else "SD 1 after residualising",
        "sd_before_scaling": scales.tolist(),
        "warnings": list(WARNINGS),
        "about": dict(about or {}),
    }
    beside = _write(path, table, description)
    return GeneticsExport(path, beside, tuple(names), int(present_N.sum()))


def _write(path: Path, table: pd.DataFrame, description: dict[str, Any]) -> Path:
    """Both files, the description's path is returned."""
    text = json.dumps(description, indent=2, allow_nan=False) + "\n"  # before any file: facts that JSON cannot hold fail here
    write_atomically(path, lambda file: table.to_csv(file, sep="\t", index=False, na_rep="NA", float_format="%.8g"))
    return write_atomically(path.with_name(f"{path.name}.json"), lambda file: file.write_text(text, encoding="utf-8"))


def _residualise(z_NE: np.ndarray, covariates_NK: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Residuals, and the rank of the constant and the covariates; both of the people with an embedding."""
    n, rank = len(z_NE), 1
    residuals_NE = centred_NE = z_NE - z_NE.sum(0) / max(n, 1)
    if covariates_NK is not None and covariates_NK.size:
        design_NK = covariates_NK - covariates_NK.mean(0)
        scale_K = design_NK.std(0)
        design_NK = design_NK[:, scale_K > 0] / scale_K[scale_K > 0]
        slopes_KE, _, free, _ = np.linalg.lstsq(design_NK, centred_NE, rcond=1e-10)
        residuals_NE, rank = centred_NE - design_NK @ slopes_KE, 1 + int(free)
    if n - rank < 2:
        raise ValueError(
            f"Genetics export: more people with an embedding than covariates were expected, got {n} people and covariates of "
            f"rank {rank - 1}.\n  fix: name fewer covariates, or export more people."
        )
    sizes_E = np.sqrt((z_NE**2).mean(0))
    left_E = residuals_NE.std(0)
    gone = [str(at + 1) for at in np.flatnonzero(left_E <= SMALLEST_LEFT * sizes_E)]
    if gone:
        raise ValueError(
            f"Genetics export: dimensions that vary beyond the covariates were expected, got {len(gone)} that are constant or "
            f"told by them: {some(gone)}.\n  fix: leave these columns out, or the covariate that is the embedding in other words."
        )
    return residuals_NE, rank


def _principal(residuals_NE: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the leading components, the largest loading of each positive, and their shares of the variance."""
    scores, sizes, axes = np.linalg.svd(residuals_NE, full_matrices=False)
    rank = int((sizes > SMALLEST_LEFT * sizes[0]).sum())
    components = min(components, rank)
    rows = np.arange(components)
    signs = np.sign(axes[rows, np.abs(axes[:components]).argmax(1)])
    return scores[:, :components] * sizes[:components] * signs, (sizes**2 / (sizes**2).sum())[:components]


def _to_normal(values: np.ndarray) -> np.ndarray:
    return norm.ppf((rankdata(values, axis=0) - BLOM) / (len(values) + 1 - 2 * BLOM))


def _check_values(z_NE, people: pd.DataFrame, covariates_NK) -> np.ndarray:
    z_NE = np.asarray(z_NE, dtype=np.float64)
    shape = None if covariates_NK is None else np.shape(covariates_NK)
    if z_NE.ndim != 2 or not z_NE.size or len(z_NE) != len(people) or (shape and (len(shape) != 2 or shape[0] != len(people))):
        raise ValueError(
            f"Genetics export: a row of embedding and covariates for each of {len(people)} people was expected, got shapes "
            f"{z_NE.shape} and {shape}.\n  fix: pass the three in the order of the people table."
        )
    infinite = np.flatnonzero(np.isinf(z_NE).any(1))
    if infinite.size:
        raise ValueError(
            f"Genetics export: finite embeddings, or NaN for none, were expected, got infinite values for {infinite.size} "
            f"people, first in row {infinite[0]}.\n  fix: embed these people again."
        )
    gaps = [] if covariates_NK is None else np.flatnonzero(~np.isfinite(np.asarray(covariates_NK, dtype=np.float64)).all(1))
    if len(gaps):
        raise ValueError(
            f"Genetics export: covariates of everyone were expected, got gaps for {len(gaps)} people, first in row {gaps[0]}.\n"
            "  fix: fill them by the covariates' own rule for missing values, or leave these people out."
        )
    return z_NE


def _check_ids(people: pd.DataFrame, family_ids: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """(FIDs, IIDs) as text; every fault of either is listed."""
    if "sample_id" not in people.columns or (family_ids is not None and len(family_ids) != len(people)):
        raise ValueError(
            "Genetics export: a column sample_id and, where given, a family id for everyone were expected, got columns "
            f"{some(list(map(str, people.columns)))} of {len(people)} people"
            + (f" and {len(family_ids)} family ids" if family_ids is not None else "")
            + ".\n  fix: name each person as the genotype file does."
        )
    faults, columns = [], {"IID": list(people["sample_id"])} | ({} if family_ids is None else {"FID": list(family_ids)})
    for column, values in columns.items():
        blank = [str(row) for row, value in enumerate(values) if is_blank(value) or not str(value).strip()]
        texts = [str(value) for value in values if not is_blank(value) and str(value).strip()]
        found = {
            "blank in row": blank,
            "with whitespace": [repr(text) for text in texts if re.search(r"\s", text)],
            "that PLINK would take for a comment": [text for text in texts if text.startswith("#")],
        }
        if column == "IID":
            counts = pd.Series(texts, dtype=object).value_counts(sort=False)
            found |= {"doubled": list(counts.index[counts > 1]), "that PLINK reserves": [text for text in texts if text == "0"]}
        faults += [f"{column} {what}: {some(each)}" for what, each in found.items() if each]
    if faults:
        raise ValueError(
            "Genetics export: an id of its own for everyone, without whitespace, was expected, got\n  - "
            + "\n  - ".join(faults)
            + "\n  where: sample_id of the people table, family_ids\n  fix: name each person as the genotype file does."
        )
    iids = [str(value) for value in columns["IID"]]
    return (["0"] * len(iids) if family_ids is None else [str(value) for value in columns["FID"]]), iids


def _check_names(prefix: str, components: int | None) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix):
        raise ValueError(
            f"Genetics export: a prefix of letters, digits and _ that starts with a letter was expected, got {prefix!r}.\n"
            "  fix: take fmri or dna."
        )
    if components is not None and components < 1:
        raise ValueError(
            f"Genetics export: 1 component or more was expected, got {components}.\n  fix: take 10, or None for none."
        )
