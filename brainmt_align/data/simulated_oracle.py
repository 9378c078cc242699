"""Simulated ceiling: a cohort's truth and its scans flow in; scores of every scan against every genome flow out.

The oracle knows everything that was planted but the time courses and the noise: no model can be expected to do better on the same
windows from what the traits alone tell (a model that also sees covariates that differ between people can).
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.special import digamma, polygamma

from brainmt_align.data.datasets import covering_windows


class _Moments(NamedTuple):
    """Bias and variance of a log SD estimated on several windows and averaged over them."""

    bias: float
    variance: float


def oracle_scores(
    truth: Path | str, runs: Sequence[Path | str], sample_ids: Sequence[str], windows: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Score each scan against each genome with the planted model itself.

    For run i and trait k, x_ik is the log SD over a window of the least-squares projection on the true maps, averaged over
    windows. Under genome j, with genetic value g_jk, a = amplitude, A_jk = signal_sd exp(a sqrt(coupling) g_jk) and n_k the SD of
    the projected noise,

        x_ik ~ N( 1/2 log(A_jk^2 + n_k^2) + bias,  variance + a^2 (1 - coupling) )

    where bias and variance of a log SD follow from the courses' autocorrelation (`_log_sd_moments`). The score is the Gaussian
    log density, summed over traits, less that of x_i under a genome drawn at random (g = 0, variance + a^2): the order of genomes
    for a scan is that of the likelihood, and the order of scans for a genome is right too. With coupling 0 all tie.

    Args:
        truth: truth.json of the cohort; its maps lie beside it.
        runs: BOLD files of the cohort, as written by `write_cohort` (their names give the scanner, whose gain is known).
        sample_ids: people whose genomes are scored, without `sub-`.
        windows: (first frame, number of frames) of the windows that are averaged, the same in all runs.

    Returns:
        (runs, sample_ids) float64 log-likelihood ratios.

    Raises:
        FileNotFoundError: no such truth.json.
        ValueError: ids that are not of the cohort, windows outside a run, or a run on another grid than the maps.
    """
    truth = Path(truth)
    if not truth.is_file():
        raise FileNotFoundError(
            f"truth.json of a simulated cohort was expected, got no file.\n  file: {truth}\n"
            "  fix: correct data.truth or set it to null."
        )
    known = json.loads(truth.read_text())
    people, settings = known["people"], known["parameters"]
    run_ids = [_run_id(Path(run)) for run in runs]
    _check_ids(truth, people, run_ids, sample_ids)
    _check_windows(truth, windows, settings["frames"])

    maps = nib.load(truth.parent / known["maps"]["file"])
    maps_XYZK = maps.get_fdata(dtype=np.float32)
    inside_XYZ = (maps_XYZK != 0).any(axis=-1)
    unmix_KV = np.linalg.pinv(maps_XYZK[inside_XYZ].astype(np.float64))[: len(known["traits"])]
    noise_K = known["noise_sd"] * np.linalg.norm(unmix_KV, axis=1)

    observed_RK = np.empty((len(runs), len(unmix_KV)))
    for row, (run, run_id) in enumerate(zip(runs, run_ids, strict=True)):
        courses_TK = (unmix_KV @ _read_inside(Path(run), inside_XYZ, maps.affine)).T
        log_sds = [np.log(courses_TK[start : start + frames].std(axis=0)) for start, frames in windows]
        observed_RK[row] = np.mean(log_sds, axis=0) - np.log(people[run_id]["site_scale"])

    coupling, amplitude = settings["coupling"], settings["amplitude"]
    moments = _log_sd_moments(windows, settings["signal_autocorrelation"])
    values_SK = np.array([people[sample_id]["genetic_values"] for sample_id in sample_ids])

    def log_density(values_SK: np.ndarray, latent_variance: float) -> np.ndarray:
        signal_SK = known["signal_sd"] * np.exp(amplitude * np.sqrt(coupling) * values_SK)
        expected_SK = 0.5 * np.log(signal_SK**2 + noise_K**2) + moments.bias
        variance = moments.variance + amplitude**2 * latent_variance
        deviation_RSK = observed_RK[:, None] - expected_SK[None]
        return -0.5 * (deviation_RSK**2 / variance + np.log(2 * np.pi * variance)).sum(axis=2)

    return log_density(values_SK, 1 - coupling) - log_density(np.zeros_like(values_SK[:1]), 1.0)


def oracle_of_people(truth: Path | str, runs: pd.DataFrame, people: pd.DataFrame, window: int) -> np.ndarray:
    """`oracle_scores` of people, on the windows that cover their runs; several runs of a person add up.

    With one run a person, as `write_cohort` makes them, this is the likelihood; with several and a coupling below 1 it counts
    what the runs share more than once.

    Args:
        truth: truth.json of the cohort.
        runs: subject_id, bold_path, num_frames, one row a run.
        people: subject_id and sample_id, one row a person.
        window: frames a window.

    Returns:
        (people, people) float64, row a person's scans, column a genome, in the order of `people`.

    Raises:
        ValueError: see `oracle_scores`.
    """
    theirs = runs.set_index("subject_id").loc[people["subject_id"]]
    windows = covering_windows(int(theirs["num_frames"].min()), window)
    scores = oracle_scores(truth, theirs["bold_path"].tolist(), people["sample_id"].tolist(), windows)
    return pd.DataFrame(scores, index=theirs.index).groupby(level=0, sort=False).sum().to_numpy()


def _log_sd_moments(windows: Sequence[tuple[int, int]], autocorrelation: float) -> _Moments:
    """Bias and variance of the mean over windows of log(SD estimate / true SD) for an AR(1) Gaussian course.

    The variance S of a centred window is a quadratic form of mean E = tr(C)/T and variance 2 tr(C C)/T^2, C the centred
    autocovariance; matched to a scaled chi-square of nu = 2 E^2 / Var(S) degrees of freedom (Satterthwaite 1946), log S has
    mean log E + digamma(nu/2) - log(nu/2) and variance trigamma(nu/2). Between windows the covariance of log S is taken to first
    order. Against simulated courses the variance is within 15 % for 16 frames or more; at coupling 1 it scales all scores alike.
    """
    last = max(start + frames for start, frames in windows)
    covariance_TT = (
        autocorrelation ** np.abs(np.subtract.outer(np.arange(last), np.arange(last))) if autocorrelation else np.eye(last)
    )
    centre = [np.eye(frames) - 1 / frames for _, frames in windows]
    spans = [slice(start, start + frames) for start, frames in windows]
    mean_W = np.array([np.trace(c @ covariance_TT[s, s]) / len(c) for c, s in zip(centre, spans, strict=True)])
    covariance_WW = np.empty((len(windows), len(windows)))
    for a, (centre_a, span_a) in enumerate(zip(centre, spans, strict=True)):
        for b, (centre_b, span_b) in enumerate(zip(centre, spans, strict=True)):
            cross = centre_a @ covariance_TT[span_a, span_b] @ centre_b
            covariance_WW[a, b] = 2 * (cross**2).sum() / (len(centre_a) * len(centre_b) * mean_W[a] * mean_W[b])
    half_nu_W = 1 / np.diag(covariance_WW)
    bias = 0.5 * np.mean(np.log(mean_W) + digamma(half_nu_W) - np.log(half_nu_W))
    np.fill_diagonal(covariance_WW, polygamma(1, half_nu_W))
    return _Moments(float(bias), float(0.25 * covariance_WW.mean()))


def _run_id(run: Path) -> str:
    match = re.match(r"sub-([A-Za-z0-9]+)_", run.name)
    return match.group(1) if match else run.name


def _check_ids(truth: Path, people: dict, run_ids: Sequence[str], sample_ids: Sequence[str]) -> None:
    strangers = [name for name in dict.fromkeys([*run_ids, *sample_ids]) if name not in people]
    if strangers:
        raise ValueError(
            f"Oracle: expected people of the simulated cohort (such as {', '.join(list(people)[:3])}), got {len(strangers)} that "
            f"are not: {', '.join(strangers[:10])}.\n  file: {truth}\n"
            "  fix: give sample ids without `sub-` and runs named as write_cohort named them."
        )


def _check_windows(truth: Path, windows: Sequence[tuple[int, int]], frames: int) -> None:
    outside = [window for window in windows if window[0] < 0 or window[1] < 2 or sum(window) > frames]
    if outside or not windows:
        raise ValueError(
            f"Oracle: expected windows (first frame, number of frames) of at least 2 frames inside a run of {frames}, got "
            f"{outside or 'none'}.\n  file: {truth}\n  fix: give the windows on which the model is tested."
        )


def _read_inside(run: Path, inside_XYZ: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(V, T) of a run where any map is."""
    image = nib.load(run)
    if image.shape[:3] != inside_XYZ.shape or not np.allclose(image.affine, affine, atol=1e-3):
        raise ValueError(
            f"Oracle: expected a run on the grid of the true maps, {inside_XYZ.shape}, got {image.shape[:3]} or another affine.\n"
            f"  file: {run}\n  fix: give the runs of the cohort whose truth.json this is."
        )
    return np.asanyarray(image.dataobj)[inside_XYZ]
