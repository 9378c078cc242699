"""Evaluate a checkpoint: people's scans and genomes flow in; retrieval that confounds cannot explain, or predictions, flow out.

    accelerate launch recipes/evaluate.py checkpoint=runs/contrastive/best.safetensors [key=value …]
    accelerate launch recipes/evaluate.py checkpoint=runs/phenotype/fmri_seed0_fold0/best.safetensors data.root=DIR [key=value …]

Without data.root the people are those of the checkpoint's own run. How scans are read (orientation, normalisation, window) is
written in the checkpoint. People whom it was trained or chosen on, and their relatives, are not scored.

An alignment is scored overall, within strata, on matched pools and against rivals; its regions and voxels are attributed and its
embeddings exported for PLINK 2 and REGENIE. A phenotype model predicts; the participants table is not needed there
(data.participants=null), and where it has the targets' columns, the predictions are scored.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from rich.console import Console

from brainmt_align.atomic import write_atomically
from brainmt_align.config import EvaluateConfig, default_yaml, load_config, to_yaml
from brainmt_align.data import bold_store, dna_store, simulate, simulated_oracle
from brainmt_align.data.cohort import Cohort, read_cohort
from brainmt_align.data.cohort_genomes import fill_genomes
from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.data.dosages import read_dosages
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotypes import list_regions
from brainmt_align.data.kinship import families_of, family_shares
from brainmt_align.data.new_people import NewPeople, require_enough, tell_new_people
from brainmt_align.data.people_table import write_people
from brainmt_align.data.phenotype_presets import require_columns
from brainmt_align.data.scan_facts import compare_scans
from brainmt_align.data.seen_people import training_people
from brainmt_align.data.targets import targets_from_json
from brainmt_align.evaluation.brain_maps import write_map
from brainmt_align.evaluation.cca_rival import cca_rival, rows_to_learn_from
from brainmt_align.evaluation.confounds import encode_covariates, require_examinable
from brainmt_align.evaluation.confounds import evaluate_alignment as examine
from brainmt_align.evaluation.connectivity import cohort_connectivity
from brainmt_align.evaluation.covariate_rival import RivalVectors
from brainmt_align.evaluation.embedding import embed_people
from brainmt_align.evaluation.genetics_export import export_phenotypes
from brainmt_align.evaluation.group_attribution import attribute_group
from brainmt_align.evaluation.prediction import predict_people, specify_targets
from brainmt_align.evaluation.region_attribution import AttributionSettings, attribute_regions
from brainmt_align.evaluation.retrieval import EmbeddingIndex
from brainmt_align.evaluation.scoring import score_predictions, tabulate_predictions
from brainmt_align.evaluation.tower_comparison import compare_towers
from brainmt_align.model.alignment import AlignmentModel
from brainmt_align.model.rebuilding import model_fingerprint, rebuild_alignment, rebuild_phenotype
from brainmt_align.reporting.phenotype_table import comparison_table
from brainmt_align.reporting.report import write_report
from brainmt_align.reporting.tables import retrieval_table
from brainmt_align.training import checkpoints
from brainmt_align.training.distributed import end_processes, share_of_work, start_processes
from brainmt_align.training.run_notes import RunNotes
from encoders import load_dna_encoder

CCA_RIVAL = "CCA of connectivity and dosages"


class Prepared(NamedTuple):
    """People, the stores of what they bring, and what is known of them."""

    people: pd.DataFrame
    runs: pd.DataFrame | None
    stores: dict[str, dna_store.DNAStore]
    families: list[str]  # a label a person
    new: NewPeople


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe; returns the run folder."""
    # 1. Configuration, checkpoint, a place for the run.
    config = load_config(EvaluateConfig, sys.argv[1:] if argv is None else argv)
    out, checkpoint = Path(config.out), Path(config.checkpoint)
    kind = checkpoints.kind_of(checkpoint)
    weights = checkpoints.read_weights(checkpoint, {}, kind)
    recorded = weights.description
    inputs = recorded["inputs"] if kind == checkpoints.PHENOTYPE else "both"
    checkpoints.check_run_folder(out, checkpoint)
    accelerator = start_processes(out, config.threads)
    notes = RunNotes(accelerator.print)
    notes.say(f"{checkpoint}: {kind}")

    # 2. People with what the model reads.
    with accelerator.main_process_first():
        cohort = read_people(config, inputs, accelerator.is_main_process)
    for note in cohort.notes:
        notes.say_of_people(note)
    notes.hide(cohort.people.filter(["subject_id", "sample_id"]).astype(str).to_numpy().ravel())
    families = families_of(cohort.people, family_columns(config), config.data.path("kinship"), config.data.kinship_threshold)
    new = tell_new_people(checkpoint, cohort.people["subject_id"].tolist(), families)
    if new.note:
        notes.say(new.note)
    if kind == checkpoints.ALIGNMENT:
        require_evaluable(config, cohort.people, families, new)

    # 3. Stores, read as the checkpoint was trained.
    with accelerator.main_process_first():
        runs = store_scans(config, recorded, cohort, notes, accelerator.is_main_process) if inputs != "dna" else None
    stores = store_genomes(config, recorded, cohort, accelerator, notes) if inputs != "fmri" else {}
    prepared = Prepared(cohort.people, runs, stores, families, new)

    # 4. The run folder, and what the model makes of the people.
    if accelerator.is_main_process and (note := checkpoints.open_run_folder(out, to_yaml(config)).note):
        notes.say(note)
    if accelerator.is_main_process and runs is not None:
        write_atomically(out / "runs.tsv", partial(runs.to_csv, sep="\t", index=False))
    if accelerator.is_main_process:
        ids, new_N = cohort.people["subject_id"], new.new_N
        write_people(out, cohort.people, {"evaluated": ids[new_N], "seen": ids[~new_N]}, columns_looked_at(config, recorded))
    work = evaluate_alignment if kind == checkpoints.ALIGNMENT else evaluate_phenotypes
    work(config, weights, prepared, accelerator, notes)

    # 5. A page to read.
    if accelerator.is_main_process:
        write_report(out, default_yaml(EvaluateConfig))
    end_processes(accelerator)
    checkpoints.close_run_folder(out)
    return out


def read_people(config: EvaluateConfig, inputs: str, progress: bool) -> Cohort:
    """People with scans, genomes or both, as the model's inputs ask for, and whatever the participants table says of them."""
    data, scans, genomes = config.data, inputs != "dna", inputs != "fmri"
    if data.simulate:
        simulate.write_cohort(Path(data.root), config.simulation, progress=progress)
    return read_cohort(**data.cohort_words(scans, genomes))


def columns_looked_at(config: EvaluateConfig, recorded: dict[str, Any]) -> list[str]:
    """The participants' columns that the settings name, and the targets of a phenotype model."""
    families, targets = [config.groups, *config.relatives, config.export.family_ids], recorded.get("targets")
    named = [target.name for target in targets_from_json(targets).targets] if targets else []
    return [*filter(None, families), *config.evaluation.strata, *config.evaluation.regressors(), *named]


def store_scans(
    config: EvaluateConfig, recorded: dict[str, Any], cohort: Cohort, notes: RunNotes, progress: bool
) -> pd.DataFrame:
    """The runs with store_path, in the checkpoint's orientation and normalisation."""
    runs = bold_store.build(
        cohort.runs, Path(config.stores.bold), orientation=recorded["orientation"], normalisation=recorded["normalisation"],
        min_frames=recorded["window"], tr_s=config.data.tr_s, progress=progress,
    )  # fmt: skip
    if note := compare_scans(runs, recorded):
        notes.say(note)
    return runs


def store_genomes(
    config: EvaluateConfig, recorded: dict[str, Any], cohort: Cohort, accelerator: Accelerator, notes: RunNotes
) -> dict[str, dna_store.DNAStore]:
    """The stores of the people's sequences, by the encoder and regions of the checkpoint."""
    dna, genomes = config.dna, config.data.genomes_of(cohort.people["sample_id"].tolist(), config.stores.alleles)
    if accelerator.is_main_process:
        notes.say_of_genotypes(check_genotypes(**genomes))
    accelerator.wait_for_everyone()
    encoder = load_dna_encoder(**dna.encoder_words(), device=accelerator.device)
    dna_store.require_fit(list_regions(**genomes), encoder.max_bases, dna.overlap)
    filled = fill_genomes(genomes, encoder, config.stores.dna, **dna.store_words(), **share_of_work(accelerator))
    notes.say(filled.note)
    checkpoint, described = Path(config.checkpoint), {dna.encoder: filled.store.description}
    checkpoints.require_description(checkpoint, {"dna": described}, checkpoints.kind_of(checkpoint))
    return {dna.encoder: filled.store}


def evaluate_alignment(
    config: EvaluateConfig, weights: checkpoints.Weights, prepared: Prepared, accelerator: Accelerator, notes: RunNotes
) -> None:
    """Embeddings of the new people, and all that can be said of them; the embeddings are written first."""
    model = rebuild_alignment(weights.description, weights.state).to(accelerator.device)
    people = prepared.people[prepared.new.new_N].reset_index(drop=True)
    families = families_of_new(prepared.families, prepared.new)
    settings = config.evaluation.settings(families, config.seed, shares_of_new(config, people, families))
    dataset = PeopleDataset(people, prepared.runs, prepared.stores, weights.description["window"], config.seed)
    place = accelerator.device, accelerator.process_index, accelerator.num_processes
    embeddings = embed_people(model, dataset, *place, config.windows_at_once, "people" if accelerator.is_main_process else None)
    if not accelerator.is_main_process:
        return
    out, (name, z_dna_BE) = Path(config.out), next(iter(embeddings.dna_BE.items()))
    z_fmri_BE, fingerprint = embeddings.fmri_BE.numpy(), model_fingerprint(weights.state)
    EmbeddingIndex(z_fmri_BE, z_dna_BE.numpy(), people, model=fingerprint).save(out)

    truth = config.data.path("truth")
    oracle_BB = truth and simulated_oracle.oracle_of_people(truth, prepared.runs, people, weights.description["window"])
    cca = notes.attempt(CCA_RIVAL, lambda: rival_of_linear_models(config, prepared, notes))
    evaluated = examine(z_fmri_BE, z_dna_BE.numpy(), people, settings, oracle_BB, {CCA_RIVAL: cca} if cca else {})
    write_atomically(out / "nulls.parquet", evaluated.nulls.to_parquet)
    metrics = evaluated.metrics | {"people": {"evaluated": len(people), "seen": prepared.new.seen}}
    metrics["verdict"]["words"] = prepared.new.qualify(metrics["verdict"]["words"])
    Console(width=None if sys.stdout.isatty() else 120).print(retrieval_table(evaluated.metrics["retrieval"]))
    print(metrics["verdict"]["words"])
    rows = {"fmri": z_fmri_BE, "dna": z_dna_BE.numpy()}
    covariates_NK = encode_covariates(people, settings)
    chosen = config.attribution.components, config.attribution.permutations, config.seed
    towers = notes.attempt("the towers' comparison", lambda: compare_towers(*rows.values(), covariates_NK, families, *chosen))
    metrics |= {"towers": towers and {"freed_of": list(config.evaluation.regressors())} | towers}
    metrics |= {"artificial_pairs": config.data.artificial_pairs, "simulated": config.data.truth is not None}
    if config.attribution.draws:
        store = prepared.stores[name]
        notes.attempt("regions", lambda: attribute_genome(config, model, name, store, people, z_fmri_BE, families))
    if config.attribution.people:
        brains = model, dataset, z_dna_BE, families, notes
        metrics |= {"voxels": notes.attempt("voxels", lambda: attribute_brains(config, *brains))}
    notes.attempt("phenotype files", lambda: export_embeddings(config, rows, people, covariates_NK, fingerprint))
    write_records(config, weights.description, metrics, notes)
    print(f"Everything is in {out}")


def shares_of_new(config: EvaluateConfig, people: pd.DataFrame, families: list[str]) -> np.ndarray | None:
    """What the people who are scored share with their relatives, where a table of kinship tells."""
    return family_shares(people, families, config.data.path("kinship"), family_columns(config))


def family_columns(config: EvaluateConfig) -> list[str]:
    """Columns whose equal values make relatives."""
    return [*([config.groups] if config.groups else []), *config.relatives]


def families_of_new(families: list[str], new: NewPeople) -> list[str]:
    """Families of the people who are scored, in their order."""
    return [families[row] for row in np.flatnonzero(new.new_N)]


def require_evaluable(config: EvaluateConfig, people: pd.DataFrame, families: list[str], new: NewPeople) -> None:
    """Before any store is filled: two people or more who are new to the checkpoint, with the columns that are named."""
    require_enough(config.checkpoint, new.new_N)
    theirs = people[new.new_N]
    require_examinable(theirs, config.evaluation.settings(families_of_new(families, new), config.seed))
    if config.export.family_ids:
        require_columns(theirs, [config.export.family_ids])


def rival_of_linear_models(config: EvaluateConfig, prepared: Prepared, notes: RunNotes) -> RivalVectors:
    """Connectivity and dosages of the new people in the space of a CCA that learns from the checkpoint's training people."""
    ids, samples = prepared.people["subject_id"].tolist(), prepared.people["sample_id"].tolist()
    learned_from = rows_to_learn_from(ids, training_people(config.checkpoint), config.checkpoint)
    chosen = config.attribution
    edges = cohort_connectivity(prepared.runs, ids, chosen.connectivity_regions, config.seed, progress=True)
    dosages = read_dosages(**config.data.dosages_of(samples))
    notes.say(f"{CCA_RIVAL}: {dosages.describe()}")
    rows = learned_from, np.flatnonzero(prepared.new.new_N)
    return cca_rival(edges.edges_NF, dosages.dosage_NV, *rows, prepared.families, chosen.components, config.seed)


def attribute_genome(
    config: EvaluateConfig,
    model: AlignmentModel,
    name: str,
    store: dna_store.DNAStore,
    people: pd.DataFrame,
    z_fmri_BE: np.ndarray,
    families: list[str],
) -> None:
    """region_attribution.tsv: how much worse partners are found without each region."""
    features_NRHD = store.features(people["sample_id"].tolist())
    settings = AttributionSettings(families, config.attribution.draws, config.attribution.permutations, config.seed)
    table = attribute_regions(model, name, features_NRHD, z_fmri_BE, store.regions, settings, progress=True)
    write_atomically(Path(config.out) / "region_attribution.tsv", partial(table.to_csv, sep="\t", index=False))


def attribute_brains(
    config: EvaluateConfig,
    model: AlignmentModel,
    dataset: PeopleDataset,
    z_dna_BE: torch.Tensor,
    families: list[str],
    notes: RunNotes,
) -> dict[str, Any]:
    """voxel_attribution*.nii.gz: where scans' similarity to own genomes is decided, and where more than that to others'."""
    chosen = config.attribution
    found = attribute_group(model, dataset, z_dna_BE, families, chosen.people, chosen.steps, chosen.max_steps, config.seed)
    notes.say(found.describe())
    for ending, map_DHW in (("", found.own.mean_DHW), ("_control", found.control.mean_DHW), ("_t", found.contrast.t_DHW)):
        write_map(map_DHW, found.run, Path(config.out) / f"voxel_attribution{ending}.nii.gz")
    return found.summary()


def export_embeddings(
    config: EvaluateConfig,
    rows: dict[str, np.ndarray],
    people: pd.DataFrame,
    covariates_NK: np.ndarray | None,
    fingerprint: str,
) -> None:
    """Phenotype files for PLINK 2 and REGENIE, freed of the covariates."""
    chosen, about = config.export, {"model": fingerprint, "covariates": list(config.evaluation.regressors())}
    for name, z_NE in rows.items():
        words = {"prefix": name, "components": chosen.components, "inverse_normal": chosen.inverse_normal, "about": about}
        words |= {"family_ids": people[chosen.family_ids].tolist() if chosen.family_ids else None}
        export_phenotypes(z_NE, people, covariates_NK, Path(config.out) / f"{name}.pheno.txt", **words)


def write_records(config: EvaluateConfig, recorded: dict[str, Any], metrics: dict[str, Any], notes: RunNotes) -> None:
    """notes.json, provenance.json and, last because it marks the run as finished, metrics.json."""
    out = Path(config.out)
    inputs = config.data.tables() | {"checkpoint": config.checkpoint, "split": Path(config.checkpoint).parent / "split.json"}
    notes.write(out)
    checkpoints.write_json(out / "provenance.json", checkpoints.provenance(inputs, {"checkpoint_description": recorded}))
    checkpoints.write_json(out / "metrics.json", metrics)


def evaluate_phenotypes(
    config: EvaluateConfig, weights: checkpoints.Weights, prepared: Prepared, accelerator: Accelerator, notes: RunNotes
) -> None:
    """Predictions of everybody, and the scores of those who are new to the checkpoint and have a value."""
    recorded, targets = weights.description, targets_from_json(weights.description["targets"])
    model = rebuild_phenotype(recorded, weights.state, specify_targets(targets)).to(accelerator.device)
    dataset = PeopleDataset(prepared.people, prepared.runs, prepared.stores, recorded["window"], config.seed)
    place = accelerator.device, accelerator.process_index, accelerator.num_processes
    title = "people" if accelerator.is_main_process else None
    predicted = targets.in_units(predict_people(model, dataset, *place, config.windows_at_once, title))
    if not accelerator.is_main_process:
        return
    out, people, new = Path(config.out), prepared.people, prepared.new
    table = tabulate_predictions(people, targets, predicted, new.new_N)
    write_atomically(out / "predictions.csv", partial(table.to_csv, index=False))
    drawn = config.evaluation.resamples, config.seed
    scores = score_predictions(people, targets, predicted, prepared.families, new.new_N, *drawn)
    for note in scores.notes:
        notes.say(note)
    for name, entry in scores.entries.items():
        Console(width=None if sys.stdout.isatty() else 120).print(comparison_table(name, entry["comparison"]))
    write_records(config, recorded, {"phenotype": scores.entries, "people": {"predicted": len(people), "seen": new.seen}}, notes)
    print(f"Predictions of {len(people)} people are in {out / 'predictions.csv'}")


if __name__ == "__main__":
    main()
