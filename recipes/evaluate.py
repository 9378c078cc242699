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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from rich.console import Console
from tqdm import tqdm

from brainmt_align.atomic import write_atomically
from brainmt_align.config import EvaluateConfig, default_yaml, load_config, to_yaml
from brainmt_align.data import bold_store, dna_store, simulate, simulated_oracle, splits
from brainmt_align.data.cohort import Cohort, read_cohort
from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.data.dosages import read_dosages
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotypes import list_regions, read_haplotypes
from brainmt_align.data.kinship import families_of
from brainmt_align.data.phenotype_presets import require_columns
from brainmt_align.data.regions import read_regions
from brainmt_align.data.targets import FittedTargets, TargetCoding, targets_from_json
from brainmt_align.evaluation import connectivity
from brainmt_align.evaluation.attribution import attribute_voxels
from brainmt_align.evaluation.brain_maps import average_maps, write_map
from brainmt_align.evaluation.canonical import canonical_correlations
from brainmt_align.evaluation.cca_rival import cca_rival
from brainmt_align.evaluation.comparison import ScoredFold, compare_rivals, predictions_table
from brainmt_align.evaluation.confounds import encode_covariates, require_examinable
from brainmt_align.evaluation.confounds import evaluate_alignment as examine
from brainmt_align.evaluation.covariate_rival import RivalVectors
from brainmt_align.evaluation.embedding import embed_people
from brainmt_align.evaluation.genetics_export import export_phenotypes
from brainmt_align.evaluation.prediction import predict_people
from brainmt_align.evaluation.region_attribution import attribute_regions
from brainmt_align.evaluation.retrieval import EmbeddingIndex
from brainmt_align.evaluation.similarity import linear_cka
from brainmt_align.model.alignment import AlignmentModel, DNATower, region_statistics_of
from brainmt_align.model.brain import rebuild_brainmt
from brainmt_align.model.heads import TargetSpec
from brainmt_align.model.phenotype import PhenotypeModel, build_fmri_tower
from brainmt_align.model.rebuilding import model_fingerprint, rebuild_alignment
from brainmt_align.reporting.phenotype_table import comparison_table
from brainmt_align.reporting.report import write_report
from brainmt_align.reporting.tables import retrieval_table
from brainmt_align.training import checkpoints
from brainmt_align.training.distributed import end_processes, share_of_work, start_processes
from brainmt_align.training.run_notes import RunNotes
from encoders import load_dna_encoder

MODEL = "checkpoint"
CCA_RIVAL = "CCA of connectivity and dosages"
FEWEST_FOR_CCA = 20  # training people


class Prepared(NamedTuple):
    """People, the stores of what they bring, and what is known of them."""

    people: pd.DataFrame
    runs: pd.DataFrame | None
    stores: dict[str, dna_store.DNAStore]
    families: list[str]  # a label a person
    new_N: np.ndarray  # (N,) bool: neither seen by the checkpoint nor related to anybody who was
    seen: int | None  # how many are not new; None where no split.json tells


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
    families, new_N, seen = tell_new_people(config, cohort.people, notes)
    if kind == checkpoints.ALIGNMENT:
        require_evaluable(config, cohort.people[new_N], families, new_N)

    # 3. Stores, read as the checkpoint was trained.
    with accelerator.main_process_first():
        runs = store_scans(config, recorded, cohort, notes, accelerator.is_main_process) if inputs != "dna" else None
    stores = store_genomes(config, recorded, cohort, accelerator, notes) if inputs != "fmri" else {}
    prepared = Prepared(cohort.people, runs, stores, families, new_N, seen)

    # 4. The run folder, and what the model makes of the people.
    if accelerator.is_main_process and (note := checkpoints.open_run_folder(out, to_yaml(config)).note):
        notes.say(note)
    if accelerator.is_main_process and runs is not None:
        write_atomically(out / "runs.tsv", partial(runs.to_csv, sep="\t", index=False))
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


def tell_new_people(config: EvaluateConfig, people: pd.DataFrame, notes: RunNotes) -> tuple[list[str], np.ndarray, int | None]:
    """The last three fields of `Prepared`."""
    ids = people["subject_id"].tolist()
    columns = [*([config.groups] if config.groups else []), *config.relatives]
    families = families_of(people, columns, config.data.path("kinship"), config.data.kinship_threshold)
    seen = splits.seen_people(config.checkpoint, dict(zip(ids, families, strict=True)))
    if seen is None:
        notes.say(f"No split.json lies beside {config.checkpoint}: whether it was trained on these people cannot be told.")
    elif seen:
        notes.say(
            f"{len(seen)} of {len(ids)} people were trained or chosen on, or are their relatives: they take no part in any score"
        )
    return families, ~np.isin(ids, seen or []), None if seen is None else len(seen)


def store_scans(
    config: EvaluateConfig, recorded: dict[str, Any], cohort: Cohort, notes: RunNotes, progress: bool
) -> pd.DataFrame:
    """The runs with store_path, in the checkpoint's orientation and normalisation."""
    runs = bold_store.build(
        cohort.runs, Path(config.stores.bold), orientation=recorded["orientation"], normalisation=recorded["normalisation"],
        min_frames=recorded["window"], tr_s=config.data.tr_s, progress=progress,
    )  # fmt: skip
    shape, expected = bold_store.common_volume_shape(runs), tuple(recorded["volume_shape"])
    lengths_s = [round(bold_store.open_run(path).tr_s, 3) for path in runs["store_path"]]
    strange = [tr_s for tr_s in lengths_s if tr_s not in recorded.get("tr_s", lengths_s)]  # older alignments do not tell
    if strange:
        usual = ", ".join(map(str, recorded["tr_s"]))
        notes.say(f"{len(strange)} of {len(runs)} runs have another TR, such as {strange[0]} s; those of the training: {usual} s")
    if shape != expected:
        raise ValueError(
            f"Scans of {expected} voxels (D, H, W) were expected, as the checkpoint was trained on; got {shape}.\n"
            f"  file: {runs['store_path'].iloc[0]}\n  fix: resample the runs to the grid of the training."
        )
    return runs


def store_genomes(
    config: EvaluateConfig, recorded: dict[str, Any], cohort: Cohort, accelerator: Accelerator, notes: RunNotes
) -> dict[str, dna_store.DNAStore]:
    """The stores of the people's sequences, by the encoder and regions of the checkpoint."""
    dna, genomes = config.dna, config.data.genomes_of(cohort.people["sample_id"].tolist())
    for note in check_genotypes(**genomes) if accelerator.is_main_process else []:
        notes.say(note)
    encoder = load_dna_encoder(**dna.encoder_words(), device=accelerator.device)
    dna_store.require_fit(list_regions(**genomes), encoder.max_bases, dna.overlap)
    filled = dna_store.build(
        read_haplotypes(**genomes), encoder, config.stores.dna, **dna.store_words(), **share_of_work(accelerator)
    )
    notes.say(dna_store.describe_build(filled))
    store = dna_store.open_store(filled.folder, [region.name for region in read_regions(config.data.path("regions"))])
    stores = {dna.encoder: {**store.header, "regions": store.places}}
    checkpoint = Path(config.checkpoint)
    checkpoints.require_description(checkpoint, {"dna": stores}, checkpoints.kind_of(checkpoint))
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


def evaluate_alignment(
    config: EvaluateConfig, weights: checkpoints.Weights, prepared: Prepared, accelerator: Accelerator, notes: RunNotes
) -> None:
    """Embeddings of the new people, and all that can be said of them; the embeddings are written first."""
    model = rebuild_alignment(weights.description, weights.state).to(accelerator.device)
    people = prepared.people[prepared.new_N].reset_index(drop=True)
    families = [family for family, new in zip(prepared.families, prepared.new_N, strict=True) if new]
    settings = config.evaluation.settings(families, config.seed)
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
    cca = attempt(CCA_RIVAL, notes, lambda: rival_of_linear_models(config, prepared, notes))
    evaluated = examine(z_fmri_BE, z_dna_BE.numpy(), people, settings, oracle_BB, {CCA_RIVAL: cca} if cca else {})
    write_atomically(out / "nulls.parquet", evaluated.nulls.to_parquet)
    metrics = evaluated.metrics | {"people": {"evaluated": len(people), "seen": prepared.seen}}
    if prepared.seen is None:
        words = metrics["verdict"]["words"]
        metrics["verdict"]["words"] = f"whether the checkpoint was trained on these people cannot be told; if it was not: {words}"
    rows = {"fmri": z_fmri_BE, "dna": z_dna_BE.numpy()}
    covariates_NK = encode_covariates(people, settings)
    towers = attempt("the towers' comparison", notes, lambda: compare_towers(config, *rows.values(), covariates_NK, families))
    metrics |= {"towers": towers}
    metrics |= {"artificial_pairs": config.data.artificial_pairs, "simulated": config.data.truth is not None}
    if config.attribution.draws:
        store = prepared.stores[name]
        attempt("regions", notes, lambda: attribute_genome(config, model, name, store, people, z_fmri_BE, families))
    if config.attribution.people:
        attempt("voxels", notes, lambda: attribute_brains(config, model, dataset, z_dna_BE, families, notes))
    attempt("phenotype files", notes, lambda: export_embeddings(config, rows, people, covariates_NK, fingerprint))
    write_records(config, weights.description, metrics, notes)
    Console(width=None if sys.stdout.isatty() else 120).print(retrieval_table(evaluated.metrics["retrieval"]))
    print(f"{evaluated.metrics['verdict']['words']}\nEverything is in {out}")


def attempt(what: str, notes: RunNotes, work: Callable[[], Any]) -> Any:
    """What the retrieval does not need; where these people do not allow it, a note says why, and the evaluation goes on."""
    try:
        return work()
    except (ValueError, RuntimeError, OSError) as error:
        told = f"Left out, {what}: {error}"
        notes.say(told, told.splitlines()[0].partition(", got ")[0])
        return None


def require_evaluable(config: EvaluateConfig, people: pd.DataFrame, families: list[str], new_N: np.ndarray) -> None:
    """Before any store is filled: two people or more who are new to the checkpoint, with the columns that are named."""
    if len(people) < 2:
        raise ValueError(
            f"At least 2 people whom the checkpoint has not seen were expected, got {len(people)}.\n"
            f"  file: {config.checkpoint}\n  fix: name a cohort with other people under data.root."
        )
    theirs = [family for family, new in zip(families, new_N, strict=True) if new]
    require_examinable(people, config.evaluation.settings(theirs, config.seed))
    if config.export.family_ids:
        require_columns(people, [config.export.family_ids])


def rival_of_linear_models(config: EvaluateConfig, prepared: Prepared, notes: RunNotes) -> RivalVectors:
    """Connectivity and dosages of the new people in the space of a CCA that learns from the checkpoint's training people."""
    learned_from = splits.training_people(config.checkpoint)
    fit_N = prepared.people["subject_id"].isin(learned_from or []).to_numpy()
    if fit_N.sum() < FEWEST_FOR_CCA:
        raise ValueError(
            f"{FEWEST_FOR_CCA} of the checkpoint's training people were expected in this cohort, got {int(fit_N.sum())}.\n"
            f"  file: {config.checkpoint}\n  fix: evaluate on the cohort of the training, with split.json beside the checkpoint."
        )
    paths = prepared.runs.groupby("subject_id")["store_path"].agg(list).loc[prepared.people["subject_id"]].tolist()
    opened = [bold_store.open_run(path) for each in paths for path in each]
    grid = connectivity.grid_regions(opened, config.attribution.connectivity_regions, config.seed)
    edges_NF = connectivity.people_connectivity(paths, grid, progress=True)
    samples = prepared.people["sample_id"].tolist()
    dosages = read_dosages(config.data.path("genotypes"), config.data.path("regions"), samples, window=config.data.region_window)
    read = (
        f"{len(dosages.variants)} dosages; {dosages.left_out_rare} of rare alleles and {dosages.left_out} of others are left out"
    )
    notes.say(f"{CCA_RIVAL}: {read}")
    rows = np.flatnonzero(fit_N), np.flatnonzero(prepared.new_N)
    return cca_rival(edges_NF, dosages.dosage_NV, *rows, prepared.families, config.attribution.components, config.seed)


def compare_towers(
    config: EvaluateConfig,
    z_fmri_NE: np.ndarray,
    z_dna_NE: np.ndarray,
    covariates_NK: np.ndarray | None,
    families: list[str],
) -> dict[str, Any]:
    """Canonical correlations and CKA of both towers' embeddings, freed of the covariates."""
    drawn = {
        "nuisance_NZ": covariates_NK,
        "groups_N": families,
        "permutations": config.attribution.permutations,
        "seed": config.seed,
    }
    told = {"freed_of": list(config.evaluation.regressors())}
    canonical = canonical_correlations(z_fmri_NE, z_dna_NE, components=config.attribution.components, **drawn)
    similarity = linear_cka(z_fmri_NE, z_dna_NE, **drawn)
    told["canonical"] = {"correlations": canonical.correlations_K.tolist(), "p_fwer": canonical.p_fwer_K.tolist()}
    told["canonical"] |= {"components": list(canonical.components), "rows": canonical.rows, "exact": canonical.exact}
    cka = {"value": similarity.cka, "p_value": similarity.p_value, "rows": similarity.rows, "exact": similarity.exact}
    return told | {"cka": cka}


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
    drawn = {"draws": config.attribution.draws, "permutations": config.attribution.permutations, "seed": config.seed}
    table = attribute_regions(model, name, features_NRHD, z_fmri_BE, store.regions, families, progress=True, **drawn)
    write_atomically(Path(config.out) / "region_attribution.tsv", partial(table.to_csv, sep="\t", index=False))


def attribute_brains(
    config: EvaluateConfig,
    model: AlignmentModel,
    dataset: PeopleDataset,
    z_dna_BE: torch.Tensor,
    families: list[str],
    notes: RunNotes,
) -> None:
    """voxel_attribution.nii.gz and its t map: which voxels draw some people's scans to their own genomes."""
    first_of = {family: person for person, family in reversed(list(enumerate(families)))}
    shown = sorted(first_of.values())[: config.attribution.people]
    maps, short, run = [], 0, bold_store.open_run(dataset.paths[shown[0]][0])
    steps = {"steps": config.attribution.steps, "max_steps": config.attribution.max_steps}
    for person in tqdm(shown, desc="voxels", unit="person"):
        require_one_space(run, dataset.paths[person])
        each = attribute_voxels(model, dataset.windows_of(person), z_dna_BE[person], **steps)
        maps.append(each.map_DHW)
        short += not each.complete
    group = average_maps(maps, [families[person] for person in shown])
    notes.say(
        "Voxel maps: integrated gradients of the similarity of scan and own genome, less that of the scan's mean volume; the "
        f"mean of {len(shown)} people of as many families; {short} of them miss completeness by more than 1 %. What any genome "
        "would be credited with is in them."
    )
    write_map(group.mean_DHW, run, Path(config.out) / "voxel_attribution.nii.gz")
    write_map(group.t_DHW, run, Path(config.out) / "voxel_attribution_t.nii.gz")


def require_one_space(first: bold_store.StoredRun, paths: list[str]) -> None:
    """All runs of a group map lie on one grid in one place."""
    for path in paths:
        affine = np.asarray(bold_store.open_run(path).header["affine"])
        if not np.allclose(affine, first.header["affine"], atol=1e-3):
            raise ValueError(
                f"Voxel maps: runs in one space were expected, got another affine than that of {first.path}.\n"
                f"  file: {path}\n  fix: bring the runs into one space, MNI say, or set attribution.people=0."
            )


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
    keys = ("participants", "kinship", "genotypes", "reference", "regions", "pairs", "id_map", "mask", "truth")
    inputs = {key: config.data.path(key) for key in keys} | {"checkpoint": config.checkpoint}
    inputs["split"] = Path(config.checkpoint).parent / "split.json"
    notes.write(out)
    checkpoints.write_json(out / "provenance.json", checkpoints.provenance(inputs, {"checkpoint_description": recorded}))
    checkpoints.write_json(out / "metrics.json", metrics)


def evaluate_phenotypes(
    config: EvaluateConfig, weights: checkpoints.Weights, prepared: Prepared, accelerator: Accelerator, notes: RunNotes
) -> None:
    """Predictions of everybody, and the scores of those who are new to the checkpoint and have a value."""
    recorded, targets = weights.description, targets_from_json(weights.description["targets"])
    model = build_model(recorded, weights.state, targets).to(accelerator.device)
    checkpoints.load_weights(Path(config.checkpoint), model)
    dataset = PeopleDataset(prepared.people, prepared.runs, prepared.stores, recorded["window"], config.seed)
    place = accelerator.device, accelerator.process_index, accelerator.num_processes
    title = "people" if accelerator.is_main_process else None
    predicted = targets.in_units(predict_people(model, dataset, *place, config.windows_at_once, title))
    if accelerator.is_main_process:
        write_predictions(config, prepared, targets, predicted, recorded, notes)


def write_predictions(
    config: EvaluateConfig,
    prepared: Prepared,
    targets: FittedTargets,
    predicted: dict[str, np.ndarray],
    recorded: dict[str, Any],
    notes: RunNotes,
) -> None:
    """predictions.csv of everybody first; then scores of those who are new to the checkpoint and have a value."""
    out, people, families, new_N = Path(config.out), prepared.people, prepared.families, prepared.new_N
    ids = people["subject_id"].tolist()
    table, observed = {"subject_id": ids, "seen_in_training": ~new_N}, {}
    for target in targets.targets:
        whole = ScoredFold("all", ids, families, np.full(len(ids), np.nan), {target.name: predicted[target.name]})
        rows = predictions_table([whole], target.classes).drop(columns=["subject_id", "fold", "observed"])
        observed[target.name], note = known_values(people, targets, target)
        if note:
            notes.say(note)
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
    metrics = {"phenotype": figures, "people": {"predicted": len(ids), "seen": prepared.seen}}
    write_records(config, recorded, metrics, notes)
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
