"""Predict with a trained phenotype model: new scans or genomes flow in; predictions, and scores where possible, flow out.

    accelerate launch recipes/evaluate.py checkpoint=runs/phenotype/fmri_seed0_fold0/best.safetensors data.root=DIR [key=value …]

How scans are read (orientation, normalisation, window) is written in the checkpoint. The participants table is not needed
(data.participants=null); where it has the targets' columns, people whom the checkpoint has not seen are scored.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from brainmt_align.atomic import write_atomically
from brainmt_align.config import EvaluateConfig, load_config, to_yaml
from brainmt_align.data import bold_store, dna_store, simulate, splits
from brainmt_align.data.cohort import Cohort, read_cohort
from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotypes import list_regions, read_haplotypes
from brainmt_align.data.kinship import families_of
from brainmt_align.data.regions import read_regions
from brainmt_align.data.targets import FittedTargets, TargetCoding, targets_from_json
from brainmt_align.evaluation.comparison import ScoredFold, compare_rivals, predictions_table
from brainmt_align.evaluation.prediction import predict_people
from brainmt_align.model.alignment import DNATower, region_statistics_of
from brainmt_align.model.brain import rebuild_brainmt
from brainmt_align.model.heads import TargetSpec
from brainmt_align.model.phenotype import PhenotypeModel, build_fmri_tower
from brainmt_align.reporting.phenotype_table import comparison_table
from brainmt_align.training import checkpoints
from brainmt_align.training.distributed import end_processes, share_of_work, start_processes
from encoders import load_dna_encoder

MODEL = "checkpoint"


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe; returns the run folder."""
    # 1. Configuration, checkpoint, a place for the run.
    config = load_config(EvaluateConfig, sys.argv[1:] if argv is None else argv)
    out, checkpoint = Path(config.out), Path(config.checkpoint)
    weights = checkpoints.read_weights(checkpoint, {}, kind="a phenotype model")
    recorded, targets = weights.description, targets_from_json(weights.description["targets"])
    checkpoints.check_run_folder(out, checkpoint)
    accelerator = start_processes(out, config.threads)
    say, is_main = accelerator.print, accelerator.is_main_process
    say(f"{checkpoint}: {recorded['inputs']} → {', '.join(target.name for target in targets.targets)}")

    # 2. People with what the model reads.
    with accelerator.main_process_first():
        cohort = read_people(config, recorded["inputs"], is_main)
    for note in cohort.notes:
        say(note)

    # 3. Stores, read as the checkpoint was trained.
    with accelerator.main_process_first():
        runs = store_scans(config, recorded, cohort, is_main)
    stores = store_genomes(config, recorded, cohort, accelerator)

    # 4. Model and predictions.
    model = build_model(recorded, weights.state, targets).to(accelerator.device)
    checkpoints.load_weights(checkpoint, model)
    dataset = PeopleDataset(cohort.people, runs, stores, recorded["window"], config.seed)
    place = accelerator.device, accelerator.process_index, accelerator.num_processes
    predicted = predict_people(model, dataset, *place, config.windows_at_once, "people" if is_main else None)
    predicted = targets.in_units(predicted)

    # 5. Products.
    if is_main:
        if note := checkpoints.open_run_folder(out, to_yaml(config)).note:
            print(note)
        write_products(config, cohort.people, targets, predicted, recorded)
    end_processes(accelerator)
    checkpoints.close_run_folder(out)
    return out


def read_people(config: EvaluateConfig, inputs: str, progress: bool) -> Cohort:
    """People with scans, genomes or both, as the model's inputs ask for, and whatever the participants table says of them."""
    data, scans, genomes = config.data, inputs != "dna", inputs != "fmri"
    if data.simulate:
        simulate.write_cohort(Path(data.root), config.simulation, progress=progress)
    return read_cohort(**data.cohort_words(scans, genomes))


def store_scans(config: EvaluateConfig, recorded: dict[str, Any], cohort: Cohort, progress: bool) -> pd.DataFrame | None:
    """The runs with store_path, in the checkpoint's orientation and normalisation; None where the model reads no scans."""
    if recorded["inputs"] == "dna":
        return None
    runs = bold_store.build(
        cohort.runs, Path(config.stores.bold), orientation=recorded["orientation"], normalisation=recorded["normalisation"],
        min_frames=recorded["window"], tr_s=config.data.tr_s, progress=progress,
    )  # fmt: skip
    shape, expected = bold_store.common_volume_shape(runs), tuple(recorded["volume_shape"])
    lengths_s = [round(bold_store.open_run(path).tr_s, 3) for path in runs["store_path"]]
    strange = [tr_s for tr_s in lengths_s if tr_s not in recorded["tr_s"]]
    if strange and progress:
        usual = ", ".join(map(str, recorded["tr_s"]))
        print(f"{len(strange)} of {len(runs)} runs have another TR, such as {strange[0]} s; those of the training: {usual} s")
    if shape != expected:
        raise ValueError(
            f"Scans of {expected} voxels (D, H, W) were expected, as the checkpoint was trained on; got {shape}.\n"
            f"  file: {runs['store_path'].iloc[0]}\n  fix: resample the runs to the grid of the training."
        )
    return runs


def store_genomes(config: EvaluateConfig, recorded: dict[str, Any], cohort: Cohort, accelerator) -> dict[str, dna_store.DNAStore]:
    """The stores of the people's sequences, by the encoder and regions of the checkpoint; none where it reads no genomes."""
    if recorded["inputs"] == "fmri":
        return {}
    dna, genomes = config.dna, config.data.genomes_of(cohort.people["sample_id"].tolist())
    for note in check_genotypes(**genomes) if accelerator.is_main_process else []:
        accelerator.print(note)
    encoder = load_dna_encoder(**dna.encoder_words(), device=accelerator.device)
    dna_store.require_fit(list_regions(**genomes), encoder.max_bases, dna.overlap)
    filled = dna_store.build(
        read_haplotypes(**genomes), encoder, config.stores.dna, **dna.store_words(), **share_of_work(accelerator)
    )
    store = dna_store.open_store(filled.folder, [region.name for region in read_regions(config.data.path("regions"))])
    stores = {dna.encoder: {**store.header, "regions": store.places}}
    checkpoints.require_description(Path(config.checkpoint), {"dna": stores}, kind="a phenotype model")
    return {dna.encoder: store}


def build_model(recorded: dict[str, Any], state: dict[str, torch.Tensor], targets: FittedTargets) -> PhenotypeModel:
    """The model that the description speaks of, to be filled."""
    fmri = None
    if recorded["inputs"] != "dna":
        encoder = rebuild_brainmt(recorded["encoder"], recorded["window"])
        fmri = build_fmri_tower(encoder, recorded["readout"], recorded["fmri_pooling"], 0.0, recorded["width"])
    dna = {
        name: DNATower(region_statistics_of(state, name), recorded["region_pooling"], 0.0, recorded["width"])
        for name in recorded.get("dna", {})
    }
    specs = [TargetSpec(target.name, target.task, len(target.classes)) for target in targets.targets]
    model = PhenotypeModel(specs, fmri, dna)
    model.adapt(recorded["adapt"], recorded["lora_rank"])
    return model


def write_products(
    config: EvaluateConfig,
    people: pd.DataFrame,
    targets: FittedTargets,
    predicted: dict[str, np.ndarray],
    recorded: dict[str, Any],
) -> None:
    """predictions.csv of everybody first; then scores of those who are new to the checkpoint and have a value."""
    out, ids = Path(config.out), people["subject_id"].tolist()
    columns = [*([config.groups] if config.groups else []), *config.relatives]
    families = families_of(people, columns, config.data.path("kinship"), config.data.kinship_threshold)
    seen = splits.seen_people(config.checkpoint, dict(zip(ids, families, strict=True)))
    if seen is None:
        print(f"No split.json lies beside {config.checkpoint}: whether it was trained on these people cannot be told.")
    elif seen:
        print(f"{len(seen)} of {len(ids)} people were trained or chosen on, or are their relatives: predicted, but not scored")
    new_N = ~np.isin(ids, seen or [])
    table, observed = {"subject_id": ids, "seen_in_training": ~new_N}, {}
    for target in targets.targets:
        whole = ScoredFold("all", ids, families, np.full(len(ids), np.nan), {target.name: predicted[target.name]})
        rows = predictions_table([whole], target.classes).drop(columns=["subject_id", "fold", "observed"])
        observed[target.name], note = known_values(people, targets, target)
        if note:
            print(note)
        if target.name in people:
            table[f"{target.name} (observed)"] = people[target.name].tolist()
        table |= dict(rows.items())
    write_atomically(out / "predictions.csv", partial(pd.DataFrame(table).to_csv, index=False))
    figures = {}
    for target in targets.targets:
        rows = np.flatnonzero(np.isfinite(observed[target.name]) & new_N)
        if len(rows) < 2 or len({families[row] for row in rows}) < 2:
            continue
        new = [ids[row] for row in rows], [families[row] for row in rows], observed[target.name][rows]
        scored = ScoredFold("all", *new, {MODEL: predicted[target.name][rows]})
        entry = compare_rivals(target.task, [scored], MODEL, config.evaluation.resamples, config.seed)
        freed_of = targets.covariates.names if targets.covariates and target.slopes else []
        positive = target.classes[1] if target.task == "binary" else None
        entry |= {"residualised_on": freed_of, "planted": None, "positive_class": positive}
        figures[target.name] = {metric: each["value"] for metric, each in entry["figures"][MODEL].items()} | {"comparison": entry}
        Console(width=None if sys.stdout.isatty() else 120).print(comparison_table(target.name, entry))
    keys = ("participants", "kinship", "genotypes", "reference", "regions", "pairs", "id_map", "mask")
    inputs = {key: config.data.path(key) for key in keys} | {"checkpoint": config.checkpoint}
    inputs["split"] = Path(config.checkpoint).parent / "split.json"
    facts = {"checkpoint_description": recorded}
    checkpoints.write_json(out / "provenance.json", checkpoints.provenance(inputs, facts))
    checkpoints.write_json(out / "metrics.json", {"phenotype": figures, "people": len(ids), "seen": seen and len(seen)})
    print(f"Predictions of {len(ids)} people are in {out / 'predictions.csv'}")


def known_values(people: pd.DataFrame, targets: FittedTargets, target: TargetCoding) -> tuple[np.ndarray, str | None]:
    """What people really have, NaN where it is not known, and why nobody of them can be scored, where that is so.

    The predictions need none of it: a table without the covariates, or with other classes, costs the scores alone.
    """
    nothing_N = np.full(len(people), np.nan)
    if target.name not in people or people[target.name].isna().all():
        return nothing_N, None
    try:
        return targets.observed(people, target), None
    except ValueError as error:
        return nothing_N, f"{target.name} is predicted, but not scored: {error}"


if __name__ == "__main__":
    main()
