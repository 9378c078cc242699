"""Run folders for the report's tests: small, synthetic, with ids that cannot occur by chance."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import save_file

PEOPLE = 30
IDS = [f"NDARINV{index:03d}QX" for index in range(PEOPLE)]
FAMILIES = [f"FAMZ{index // 2:03d}" for index in range(PEOPLE)]
SETTINGS = {
    "data": {"root": "/secret/place/mycohort", "simulate": False, "genotypes": "phased.vcf.gz"},
    "train": {"epochs": 3, "learning_rate": 0.002},
    "dna": {"encoder": "caduceus"},
    "out": "runs/x",
    "seed": 0,
}


def retrieval_figures(recall: float, new: bool) -> dict:
    """Figures of one direction, as an old run wrote them or with what was added since."""
    figures = {"n": PEOPLE, "median_rank": 4.0, "chance_median_rank": 15.5, "geometric_mean_rank": 3.2}
    for k, factor in ((1, 0.5), (5, 1.0), (10, 1.2)):
        figures |= {f"recall@{k}": recall * factor, f"chance_recall@{k}": k / PEOPLE}
    figures |= {"p_value": 0.0101, "min_p_value": 0.0001, "permutations": 99, "exact": False, "ties": 0}
    if new:
        figures |= {"mrr": 0.4, "chance_mrr": 0.13, "oracle_recall@5": 0.95}
        figures["intervals"] = {"recall@5": [recall - 0.1, recall + 0.1], "mrr": [0.3, 0.5], "median_rank": [2.0, 6.0]}
    return figures


def both_ways(recall: float, new: bool = True) -> dict:
    return {side: retrieval_figures(recall, new) for side in ("fmri_to_dna", "dna_to_fmri")}


def write_basics(folder: Path, metrics: dict, config: dict | None = None) -> Path:
    """What every run leaves: settings, figures, provenance."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS if config is None else config))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    inputs = {"genotypes": {"name": "phased.vcf.gz", "bytes": 1234, "sha256": "ab" * 32}}
    record = {"written": "2026-01-01", "versions": {"torch": "2.13.0"}, "git_commit": "c0ffee", "inputs": inputs, "width": 8}
    (folder / "provenance.json").write_text(json.dumps(record))
    return folder


def old_alignment(folder: Path) -> Path:
    """An alignment of the first version: no verdict, no strata, no intervals."""
    people = {"train": 60, "validation": 10, "test": PEOPLE}
    figures = {"retrieval": both_ways(0.6, new=False), "people": people, "best_epoch": 1}
    write_basics(folder, figures | {"dropped_regions": {"caduceus": ["QUIET"]}, "artificial_pairs": False, "simulated": True})
    epochs = pd.DataFrame(
        {"epoch": [0, 1, 2], "loss": [3.0, 2.0, 1.5], "mean_rank": [5.0, 3.0, 4.0], "recall@5": [0.5, 0.8, 0.7]}
    )
    epochs.to_csv(folder / "epochs.csv", index=False)
    (folder / "split.json").write_text(json.dumps({"train": ["NDARINVTRAIN9"], "validation": [], "test": IDS}))
    return folder


def full_alignment(folder: Path) -> Path:
    """An alignment with everything that a run can leave."""
    rng = np.random.default_rng(0)
    old_alignment(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    inside = {"columns": ["site"], "min_people": 10, "notes": ["small site3 joined site1"], "people": {"site1": 16, "site2": 14}}
    lead = {"recall@5": [0.3, 0.1, 0.5], "mean_log_rank": [0.4, 0.2, 0.6]}
    rivals = {name: {side: each | {"lead": lead} for side, each in both_ways(0.3).items()} for name in ("covariates only",)}
    test = {"statistic": 1.16, "p_value": 0.0101, "min_p_value": 0.0001, "permutations": 99, "exact": False, "effect_nats": 0.8}
    untested = {"statistic": 1.16, "p_value": None, "min_p_value": 1.0, "permutations": 1, "exact": True, "effect_nats": None}
    metrics |= {
        "retrieval": both_ways(0.6),
        "strata": inside | {"left_out": 0} | both_ways(0.5),
        "matched": {"covariates": ["age"], "pool_size": 20} | both_ways(0.55),
        "rivals": rivals,
        "towers": {
            "freed_of": ["site"],
            "canonical": {"correlations": [0.8, 0.1], "p_fwer": [0.001, 0.7], "components": [5, 4], "rows": 30, "exact": False},
            "cka": {"value": 0.31, "p_value": 0.002, "rows": 30, "exact": False},
        },
        "tests": {"overall": test, "within strata": test, "within families": untested},
        "verdict": {"kind": "survives", "explained_by": [], "words": "above chance overall and within strata"},
        "artificial_pairs": True,
        "voxels": {"people": 8, "incomplete": 1, "false_discovery_rate": 0.05, "voxels": 300, "passing": 41},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    vectors = rng.normal(size=(2, PEOPLE, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    save_file({"fmri": vectors[0], "dna": vectors[1]}, folder / "embeddings.safetensors")
    people = {"subject_id": IDS, "sample_id": [f"G{each}" for each in IDS], "family_id": FAMILIES}
    people |= {"site": rng.choice(["site1", "site2"], PEOPLE), "age": rng.normal(60, 5, PEOPLE)}
    pd.DataFrame(people).to_parquet(folder / "embeddings.parquet")
    nulls = {"test": ["overall"] * 99 + ["within strata"] * 99, "statistic": rng.normal(2.1, 0.1, 198)}
    pd.DataFrame(nulls).to_parquet(folder / "nulls.parquet")
    regions = {"region": ["GENE1", "GENE2", "GENE3", "QUIET"], "kept": [True, True, True, False]}
    regions |= {"change": [0.2, -0.01, 0.05, np.nan], "p": [0.01, 0.8, 0.2, np.nan], "q": [0.03, 0.8, 0.3, np.nan]}
    pd.DataFrame(regions).to_csv(folder / "region_attribution.tsv", sep="\t", index=False)
    volume = np.zeros((20, 24, 20), dtype=np.float32)
    volume[6:10, 8:14, 8:12], volume[12:14, 10:12, 10:14] = 1.0, -0.5
    affine = np.diag([8.0, 8, 8, 1])
    affine[:3, 3] = -80, -110, -70
    for name in ("voxel_attribution", "voxel_attribution_t"):
        nib.save(nib.Nifti1Image(volume, affine), folder / f"{name}.nii.gz")
    (folder / "notes.json").write_text(
        json.dumps({"notes": [f"sub-{IDS[0]} has 40 frames & <few>", "NDARINVTRAIN9 moved", f"{FAMILIES[3]} is torn"]})
    )
    return folder


def phenotype_run(folder: Path) -> Path:
    """A run of one target with a rival."""
    figure = {"value": 0.4, "low": 0.2, "high": 0.5, "undefined": 0.0, "p": 0.004}
    figures = dict.fromkeys(("r2", "pearson", "mae"), figure)
    entry = {
        "task": "regression",
        "unit": None,
        "n": PEOPLE,
        "folds": 1,
        "reference": "BrainMT",
        "residualised_on": [],
        "planted": None,
    }
    entry |= {"figures": {"BrainMT": figures, "mean of the training people": figures}}
    entry |= {"differences": {"mean of the training people": figures}}
    phenotype = {"cognition score": {"r2": 0.4, "comparison": entry}}
    config = SETTINGS | {"phenotype": {"targets": {"cognition score": "regression"}}}
    people = {"seed0_fold0": {"train": 60, "validation": 10, "test": PEOPLE}}
    write_basics(folder, {"phenotype": phenotype, "simulated": False, "people": people}, config)
    pd.DataFrame({"subject_id": IDS, "observed": 1.0}).to_csv(folder / "predictions_cognition_score.csv", index=False)
    fit = folder / "fmri_seed0_fold0"
    fit.mkdir()
    pd.DataFrame({"epoch": [0, 1], "loss_train": [1.0, 0.5], "loss_validation": [1.0, 0.8]}).to_csv(
        fit / "epochs.csv", index=False
    )
    from brainmt_align.reporting.phenotype_plots import residuals

    observed = np.arange(PEOPLE, dtype=float)
    residuals(observed, observed / 2, "cognition score").savefig(folder / "residuals_cognition_score.png", dpi=60)
    return folder
