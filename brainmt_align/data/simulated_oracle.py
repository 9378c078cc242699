"""Simulated ceiling: a cohort's truth and its scans flow in; scores of every scan against every genome flow out.

The oracle knows everything that was planted but the time courses and the noise. It sums a run up by one whitened log SD a trait,
which holds nearly all that the frames tell of the traits, and takes its density for Gaussian: a ceiling in practice, not a proven
bound. A model that also sees covariates that differ between people can go beyond it.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.special import digamma, polygamma

from brainmt_align.data.datasets import covering_windows
from brainmt_align.data.simulated_truth import read_truth, require_simulated


class _Whitening(NamedTuple):
    """The quadratic form of an AR(1) course of unknown mean, and what it makes of noise of another autocorrelation."""

    frames: np.ndarray  # (F,) the frames that any window covers
    form_FF: np.ndarray  # y' form y / freedom estimates the variance of y
    freedom: int
    noise: float  # tr(form N) / freedom, N the noise's autocorrelation
    noise_squared: float  # tr(form N form N) / freedom


class _Moments(NamedTuple):
    """Expectation and variance of a whitened log SD."""

    mean: np.ndarray
    variance: np.ndarray


def oracle_scores(
    truth: Path | str, runs: Sequence[Path | str], sample_ids: Sequence[str], windows: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Score each scan against each genome with the planted model itself.

    For run i and trait k, y_ik is the course of the least-squares projection on the true maps, in the frames that the windows
    cover, and x_ik = 1/2 log(y' P y / nu) its log SD after whitening by the autocorrelation that was planted (`_whitening`).
    Under genome j, with genetic value g_jk, a = amplitude and A_jk = signal_sd exp(a sqrt(coupling) g_jk),

        x_ik ~ N( m(A_jk),  v(A_jk) + a^2 (1 - coupling) )

    with m and v from `_log_sd_moments`: known beforehand, not fitted to any scan. The score is the Gaussian log density, summed
    over traits, less that of x_i under a genome drawn at random (g = 0, v + a^2): the order of genomes for a scan is that of
    this likelihood, and the order of scans for a genome is right too. With coupling 0 all tie.

    Args:
        truth: truth.json of the cohort; its maps lie beside it.
        runs: BOLD files of the cohort, as written by `write_cohort` (their names give the scanner, whose gain is known).
        sample_ids: people whose genomes are scored, without `sub-`.
        windows: (first frame, number of frames) of the windows that the model sees, the same in all runs; frames of several
            windows count once.

    Returns:
        (runs, sample_ids) float64 log-likelihood ratios.

    Raises:
        FileNotFoundError: no such truth.json, or its maps are gone.
        ValueError: ids that are not of the cohort, windows outside a run, or a run on another grid than the maps.
    """
    truth, known = Path(truth), read_truth(truth)
    people, settings = known["people"], known["parameters"]
    run_ids = [_run_id(Path(run)) for run in runs]
    require_simulated(truth, known, [*run_ids, *sample_ids])
    _check_windows(truth, windows, settings["frames"])

    maps = nib.load(_maps_of(truth, known))
    maps_XYZK = maps.get_fdata(dtype=np.float32)
    inside_XYZ = (maps_XYZK != 0).any(axis=-1)
    unmix_KV = np.linalg.pinv(maps_XYZK[inside_XYZ].astype(np.float64))[: len(known["traits"])]
    noise_K = known["noise_sd"] * np.linalg.norm(unmix_KV, axis=1)

    whitening = _whitening(windows, settings["signal_autocorrelation"], settings["noise_autocorrelation"])
    observed_RK = np.empty((len(runs), len(unmix_KV)))
    for row, (run, run_id) in enumerate(zip(runs, run_ids, strict=True)):
        courses_TK = (unmix_KV @ _read_inside(Path(run), inside_XYZ, maps.affine)).T
        observed_RK[row] = _log_sd(courses_TK, whitening) - np.log(people[run_id]["site_scale"])

    coupling, amplitude = settings["coupling"], settings["amplitude"]
    values_SK = np.array([people[sample_id]["genetic_values"] for sample_id in sample_ids])

    def log_density(values_SK: np.ndarray, latent_variance: float) -> np.ndarray:
        signal_SK = known["signal_sd"] * np.exp(amplitude * np.sqrt(coupling) * values_SK)
        expected_SK, variance_SK = _log_sd_moments(whitening, signal_SK, noise_K)
        variance_SK = variance_SK + amplitude**2 * latent_variance
        deviation_RSK = observed_RK[:, None] - expected_SK[None]
        return -0.5 * (deviation_RSK**2 / variance_SK + np.log(2 * np.pi * variance_SK)).sum(axis=2)

    return log_density(values_SK, 1 - coupling) - log_density(np.zeros_like(values_SK[:1]), 1.0)


def oracle_of_people(truth: Path | str, runs: pd.DataFrame, people: pd.DataFrame, window: int) -> np.ndarray:
    """`oracle_scores` of people, on the windows that cover their runs; several runs of a person add up.

    With one run a person, as `write_cohort` makes them, this is one likelihood; with several and a coupling below 1 it counts
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


def _whitening(windows: Sequence[tuple[int, int]], signal: float, noise: float) -> _Whitening:
    """How to whiten the frames of some windows.

    With R the autocorrelation of the signal between those frames, P = R^-1 - R^-1 1 1' R^-1 / (1' R^-1 1) takes the
    generalised-least-squares mean away and whitens: y' P y / A^2 is chi-square of F - 1 degrees of freedom for a course of SD A.

    Args:
        windows: (first frame, number of frames).
        signal, noise: lag-one autocorrelation of the signal and of what is added to it.
    """
    frames = np.unique(np.concatenate([np.arange(start, start + length) for start, length in windows]))
    lags_FF = np.abs(np.subtract.outer(frames, frames))
    # 0 ** 0 is 1: without autocorrelation this is the identity.
    inverse_FF = np.linalg.inv(float(signal) ** lags_FF)
    form_FF = inverse_FF - np.outer(inverse_FF.sum(1), inverse_FF.sum(0)) / inverse_FF.sum()
    noisy_FF = form_FF @ float(noise) ** lags_FF
    freedom = len(frames) - 1
    return _Whitening(frames, form_FF, freedom, np.trace(noisy_FF) / freedom, (noisy_FF * noisy_FF.T).sum() / freedom)


def _log_sd(courses_TK: np.ndarray, whitening: _Whitening) -> np.ndarray:
    """(K,) log of each course's SD over the frames of the windows, whitened."""
    covered_FK = courses_TK[whitening.frames]
    return 0.5 * np.log(np.einsum("fk,fg,gk->k", covered_FK, whitening.form_FF, covered_FK, optimize=True) / whitening.freedom)


def _log_sd_moments(whitening: _Whitening, signal_sd: np.ndarray, noise_sd: np.ndarray) -> _Moments:
    """Expectation and variance of `_log_sd` of a Gaussian course that is AR(1) signal and AR(1) noise.

    The variance estimate S has mean A^2 + c n^2 and variance 2 (A^4 + 2 c A^2 n^2 + d n^4) / nu, c and d being the whitening's
    `noise` and `noise_squared`; matched to a scaled chi-square of as many degrees of freedom f (Satterthwaite 1946), log S has
    mean log E(S) + digamma(f/2) - log(f/2) and variance trigamma(f/2). Exact without noise.

    Args:
        whitening: of the frames.
        signal_sd, noise_sd: A and n, of shapes that broadcast.
    """
    signal, noise = signal_sd**2, noise_sd**2
    mean = signal + whitening.noise * noise
    spread = signal**2 + 2 * whitening.noise * signal * noise + whitening.noise_squared * noise**2
    half = 0.5 * whitening.freedom * mean**2 / spread
    return _Moments(0.5 * (np.log(mean) + digamma(half) - np.log(half)), 0.25 * polygamma(1, half))


def _maps_of(truth: Path, known: dict) -> Path:
    maps = truth.parent / known["maps"]["file"]
    if not maps.is_file():
        raise FileNotFoundError(
            f"Oracle: the true maps were expected beside truth.json, got no file.\n  file: {maps}\n"
            "  fix: put it back, or remove the cohort's folder; it is then simulated anew, the same."
        )
    return maps


def _run_id(run: Path) -> str:
    match = re.match(r"sub-([A-Za-z0-9]+)_", run.name)
    return match.group(1) if match else run.name


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
