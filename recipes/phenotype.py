"""Predict phenotypes: files of a cohort flow in; a run folder with models, predictions and baselines beside them flows out.

accelerate launch recipes/phenotype.py [config=FILE] [key=value …]
"""

import dataclasses
import itertools
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from tqdm import tqdm

from brainmt_align.atomic import write_atomically
from brainmt_align.config import PhenotypeConfig, default_yaml, load_config, to_yaml
from brainmt_align.data import bold_store, dna_store, folds, simulate, splits
from brainmt_align.data.coded_folds import CodedFold, code_folds, fingerprints, require_same_folds
from brainmt_align.data.cohort import Cohort, read_cohort
from brainmt_align.data.cohort_genomes import fill_genomes
from brainmt_align.data.datasets import EpochBatches, PeopleDataset, collate_people
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotypes import list_regions
from brainmt_align.data.kinship import families_of, join_groups
from brainmt_align.data.people_table import parts_of_folds, write_people
from brainmt_align.data.scan_facts import describe_scans
from brainmt_align.data.seen_people import check_unseen
from brainmt_align.data.targets import TargetCoding, describe_targets
from brainmt_align.evaluation import connectivity
from brainmt_align.evaluation.prediction import predict_people, prediction_loss
from brainmt_align.evaluation.rivals import RivalInputs, describe_left_out, predict_rivals
from brainmt_align.evaluation.target_scores import ScoreSettings, score_targets
from brainmt_align.limits import require_file
from brainmt_align.model.alignment import DNATower, fit_region_statistics, region_statistics_of
from brainmt_align.model.brain import OFFICIAL_ORIENTATION, build_brainmt, rebuild_brainmt
from brainmt_align.model.heads import TargetSpec
from brainmt_align.model.losses import phenotype_losses, weighted_mean
from brainmt_align.model.phenotype import PhenotypeModel, build_fmri_tower, parameter_depths
from brainmt_align.reporting.phenotype_products import write_fit, write_target
from brainmt_align.reporting.report import write_report
from brainmt_align.training import checkpoints
from brainmt_align.training.allocator import keep_freed_memory
from brainmt_align.training.distributed import end_processes, share_of_work, share_text, start_processes, sum_with_grad
from brainmt_align.training.optimisation import (
    adamw,
    require_cycles,
    require_finite,
    require_precision,
    stopped_early,
    warm_restarts,
)
from brainmt_align.training.run_notes import RunNotes
from brainmt_align.training.tracking import start_tracker
from encoders import load_dna_encoder

CRITERION = "loss_validation"  # chooses the best checkpoint of a fit
MODELS = {"fmri": "BrainMT", "dna": "DNA", "both": "BrainMT + DNA"}
TOGETHER = "kept_together"  # column of families and sites joined
FOLDS = "folds.json"  # every fold's fingerprint; a run that holds it and no metrics.json was interrupted
Say = Callable[[str], None]


class Prepared(NamedTuple):
    """Everything that the fits read."""

    people: pd.DataFrame
    families: list[str]
    runs: pd.DataFrame | None  # with store_path
    dna: dict[str, dna_store.DNAStore]
    volume_shape: tuple[int, int, int] | None
    scan_facts: dict[str, Any]  # of all runs, told once: a fit's description holds them


class Built(NamedTuple):
    """A model with what its checkpoint must say of it."""

    model: PhenotypeModel
    readout: str
    width: int  # of the projected readout


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe; returns the run folder."""
    # 1. Configuration and a place for the run: unknown keys, impossible values and foreign folders stop here.
    config = load_config(PhenotypeConfig, sys.argv[1:] if argv is None else argv)
    out = Path(config.out)
    checkpoints.check_run_folder(out, config.checkpoint, config.fmri.checkpoint, config.split.file)

    # 2. Processes, threads, tracker.
    require_precision(config.train.mixed_precision)
    accelerator = start_processes(out, config.threads, config.train.mixed_precision, config.tracker)
    say, is_main = accelerator.print, accelerator.is_main_process
    say(f"{accelerator.num_processes} process(es) on {accelerator.device.type}, {torch.get_num_threads()} threads each")

    # 3. Tables, targets, folds: a fault of these costs no minute of preparation.
    if config.checkpoint:
        checkpoints.require_kind(Path(config.checkpoint), "an alignment")
    notes = RunNotes(accelerator.print)
    cohort, described = read_people(config, accelerator, notes)
    families = find_families(config, cohort.people)
    dealt = deal_folds(config, cohort.people, families, described, notes.say)
    for path, key in ((config.fmri.checkpoint, "fmri.checkpoint"), (config.data.path("truth"), "data.truth")):
        require_file(key, path)
    require_file("evaluation.atlas", config.evaluation.atlas and Path(config.data.root) / config.evaluation.atlas)

    # 4. Stores: what the chosen inputs need of scans and sequences.
    prepared = fill_stores(config, cohort, families, accelerator, notes)
    check_fits(config, prepared, dealt, accelerator)

    # 5. Run folder: an interrupted run goes on with the fits it lacks, an earlier run is kept beside.
    resumed = open_out(out, config, dealt, accelerator)
    if config.tracker:
        start_tracker(accelerator, {key: dataclasses.asdict(config)[key] for key in ("fmri", "train", "seed")}, out)
    if config.train.keep_freed_memory:
        keep_freed_memory()

    # 6. Baselines on the same folds, first: they are quick, and what stands in their way costs no training.
    rivals = predict_baselines(config, prepared, dealt, say) if is_main else {}
    scale = None if accelerator.scaler is None else accelerator.scaler.state_dict()
    accelerator.wait_for_everyone()

    # 7. One fit a fold and kind of input: trained, chosen on the validation people, its test people predicted once.
    tested = {fold.name: {} for fold in dealt}
    for fold in dealt:
        for arm in config.phenotype.arms():
            if scale is not None:  # every fit starts from the same loss scale, whatever ran before it
                accelerator.scaler.load_state_dict(scale)
            tested[fold.name][arm] = fit(config, prepared, fold, arm, accelerator, resumed)

    # 8. Comparison and products.
    if is_main:
        notes.write(out)
        if prepared.runs is not None:
            write_atomically(out / "runs.tsv", partial(prepared.runs.to_csv, sep="\t", index=False))
        write_people(out, prepared.people, parts_of_folds(dealt), columns_looked_at(config))
        write_products(config, prepared, dealt, tested, rivals)
        write_report(out, default_yaml(PhenotypeConfig))
    end_processes(accelerator)
    checkpoints.close_run_folder(out)
    return out


def read_people(config: PhenotypeConfig, accelerator: Accelerator, notes: RunNotes) -> tuple[Cohort, tuple[TargetCoding, ...]]:
    """The cohort of people with a value of some target, and the targets; faults of the tables stop here."""
    data, chosen = config.data, config.phenotype
    scans, genomes = chosen.inputs != "dna", chosen.inputs != "fmri"
    with accelerator.main_process_first():
        if data.simulate:
            simulate.write_cohort(Path(data.root), config.simulation, progress=accelerator.is_main_process)
        cohort = read_cohort(**data.cohort_words(scans, genomes))
    described = describe_targets(cohort.people, chosen.targets, chosen.classes)
    silent = cohort.people[list(chosen.targets)].isna().all(axis=1)
    for note in cohort.notes:
        notes.say_of_people(note)
    if silent.any():
        notes.say(f"{silent.sum()} of {len(silent)} people have no value of any target and are left out")
    kept = cohort.people[~silent].reset_index(drop=True)
    runs = cohort.runs[cohort.runs["subject_id"].isin(kept["subject_id"])].reset_index(drop=True) if scans else cohort.runs
    return cohort._replace(people=kept, runs=runs), described


def find_families(config: PhenotypeConfig, people: pd.DataFrame) -> list[str]:
    """One label a person, from all that is known of relatives, whether people are dealt out by it or not."""
    chosen, usual = config.split, [splits.FAMILIES] if splits.FAMILIES in people else []
    columns = dict.fromkeys([*([chosen.groups] if chosen.groups else []), *chosen.relatives, *usual])
    return families_of(people, list(columns), config.data.path("kinship"), config.data.kinship_threshold)


def columns_looked_at(config: PhenotypeConfig) -> list[str]:
    """The participants' columns that the settings name."""
    split, asked = config.split, config.phenotype
    named = [*split.family_columns(), *split.strata, *([split.sites] if split.sites else [])]
    return [*asked.targets, *asked.residualise, *(config.evaluation.covariates or ()), *named]


def deal_folds(
    config: PhenotypeConfig, people: pd.DataFrame, families: list[str], described: tuple[TargetCoding, ...], say: Say
) -> list[CodedFold]:
    """Every split of every seed, its targets fitted on its training people; what leaks, cannot be learnt or scored stops here."""
    chosen, seed = config.split, config.seed if config.split.seed is None else config.split.seed
    sites = [splits.labels_of(people, [chosen.sites], complete=True)] if chosen.sites else []
    known = bool(chosen.groups or chosen.relatives or config.data.kinship)
    together = join_groups(people["subject_id"].tolist(), *([families] if known else []), *sites)
    grouped, dealt = people.assign(**{TOGETHER: together}), []
    family_of = dict(zip(people["subject_id"], families, strict=True))
    kept = None if chosen.file and chosen.torn_families else TOGETHER
    for repeat in range(seed, seed + chosen.repeats):
        frozen = folds.choose_folds(grouped, chosen.folds, chosen.parts, repeat, kept, chosen.strata, chosen.file)
        if not chosen.torn_families:
            folds.check_folds([each.split for each in frozen], family_of)
        for each in frozen if config.checkpoint else ():
            if note := check_unseen(config.checkpoint, each.split, family_of):
                say(note)
        dealt += code_folds(people, frozen, repeat, described, **config.phenotype.coding_words())
    return dealt


def fill_stores(
    config: PhenotypeConfig, cohort: Cohort, families: list[str], accelerator: Accelerator, notes: RunNotes
) -> Prepared:
    """Fill the stores that the inputs need with whatever they lack; finished parts are left as they are."""
    data, dna, runs, shape, stores, facts = config.data, config.dna, None, None, {}, {}
    if config.phenotype.inputs != "fmri":
        genomes = data.genomes_of(cohort.people["sample_id"].tolist(), config.stores.alleles)
        if accelerator.is_main_process:
            notes.say_of_genotypes(check_genotypes(**genomes))
        accelerator.wait_for_everyone()
        encoder = load_dna_encoder(**dna.encoder_words(), device=accelerator.device)
        accelerator.print(f"{dna.encoder}: {encoder.description}")
        dna_store.require_fit(list_regions(**genomes), encoder.max_bases, dna.overlap)
    if config.phenotype.inputs != "dna":
        with accelerator.main_process_first():
            runs = bold_store.build(
                cohort.runs, Path(config.stores.bold), orientation=data.orientation, normalisation=data.normalisation,
                min_frames=config.train.window, tr_s=data.tr_s, progress=accelerator.is_main_process,
            )  # fmt: skip
            shape = bold_store.common_volume_shape(runs)
        if config.fmri.checkpoint:
            opened = map(bold_store.open_run, runs["store_path"])
            bold_store.check_orientation(opened, OFFICIAL_ORIENTATION, f"the official weights {config.fmri.checkpoint}")
        facts = describe_scans(runs)
    if config.phenotype.inputs != "fmri":
        filled = fill_genomes(genomes, encoder, config.stores.dna, **dna.store_words(), **share_of_work(accelerator))
        notes.say(filled.note)
        stores[dna.encoder] = filled.store
    return Prepared(cohort.people, families, runs, stores, shape, facts)


def check_fits(config: PhenotypeConfig, prepared: Prepared, dealt: list[CodedFold], accelerator: Accelerator) -> None:
    """Refuse what no fit could start with, before an earlier run is moved aside and before any baseline is computed."""
    for arm in config.phenotype.arms() if config.checkpoint else ():
        recorded = checkpoints.require_description(Path(config.checkpoint), describe_input(config, prepared, arm), "an alignment")
        if arm != "dna":
            rebuild_brainmt(recorded["encoder"], config.train.window)
    place = accelerator.process_index, accelerator.num_processes
    for fold in dealt:
        batches = EpochBatches(len(fold.frozen.split.train), config.train.batch_size, fold.seed, *place, at_least=1)
        require_cycles(config.train.cycles, config.train.epochs * batches.steps(config.train.accumulate), fold.name)


def open_out(out: Path, config: PhenotypeConfig, dealt: list[CodedFold], accelerator: Accelerator) -> bool:
    """Open the run folder on the main process and freeze the folds in it; True everywhere when an interrupted run goes on."""
    folder = None
    if accelerator.is_main_process:
        folder = checkpoints.open_run_folder(out, to_yaml(config), resumable=FOLDS)
        if folder.note:
            accelerator.print(folder.note)
        if folder.resumed:
            require_same_folds(out / FOLDS, fingerprints(dealt))
        for fold in dealt:
            for arm in config.phenotype.arms():
                (out / f"{arm}_{fold.name}").mkdir(exist_ok=True)
                splits.save_split(out / f"{arm}_{fold.name}" / "split.json", *fold.frozen)
        checkpoints.write_json(out / FOLDS, fingerprints(dealt))
    return share_text("resumed" if folder and folder.resumed else "") == "resumed"


def fit(
    config: PhenotypeConfig, prepared: Prepared, fold: CodedFold, arm: str, accelerator: Accelerator, resumed: bool
) -> dict[str, np.ndarray]:
    """Train one model and predict its test people, in the targets' own units; its folder holds whatever it leaves."""
    folder = Path(config.out) / f"{arm}_{fold.name}"
    place = accelerator.process_index, accelerator.num_processes
    runs, stores = None if arm == "dna" else prepared.runs, {} if arm == "fmri" else prepared.dna
    datasets = {
        part: PeopleDataset(fold.rows(prepared.people, part), runs, stores, config.train.window, fold.seed)
        for part in splits.PARTS
    }
    torch.manual_seed(fold.seed)
    built = build_model(config, prepared, fold, arm, datasets["train"].people, accelerator.print)
    model, together = built.model, arm != "dna" and built.readout != "published"  # people of a batch are standardised together
    batches = EpochBatches(len(datasets["train"]), config.train.batch_size, fold.seed, *place, at_least=1 + together)
    if together and (note := batches.note()):
        accelerator.print(note)
    description = describe(config, prepared, fold, arm, built, accelerator.num_processes)
    going_on = resumed and (folder / checkpoints.STATE).is_file()
    accelerator.wait_for_everyone()
    train(config, fold, model, datasets, batches, description, folder, accelerator, going_on)
    checkpoints.load_weights(folder / "best.safetensors", model)
    title = f"{MODELS[arm]}, {fold.name}: test people" if accelerator.is_main_process else None
    predicted = predict(config, model, datasets["test"], accelerator, title)
    return fold.targets.in_units(predicted)


def build_model(
    config: PhenotypeConfig, prepared: Prepared, fold: CodedFold, arm: str, training: pd.DataFrame, say: Say
) -> Built:
    """New towers, official weights or an alignment's towers under a new head; then what of them is trained."""
    chosen, dropout, expected = config.phenotype, config.train.projector_dropout, describe_input(config, prepared, arm)
    aligned = checkpoints.read_weights(Path(config.checkpoint), expected) if config.checkpoint else None
    readout = chosen.reads(aligned=aligned is not None)
    width = aligned.description["width"] if aligned else chosen.projected_dim
    fmri, dna = None, {}
    if arm != "dna":
        settings, window = config.fmri.encoder_settings(), config.train.window
        if aligned:
            encoder = rebuild_brainmt(aligned.description["encoder"], window, settings)
        else:
            official = config.fmri.checkpoint, config.fmri.trained_volume_shape
            encoder = build_brainmt(prepared.volume_shape, window, settings, *official)
        fmri = build_fmri_tower(encoder, readout, config.fmri.pooling, dropout, width, sum_with_grad)
    for name, store in prepared.dna.items() if arm != "fmri" else ():
        chunks = map(torch.from_numpy, store.feature_chunks(training["sample_id"].tolist()))
        reference = torch.from_numpy(store.reference)
        statistics = region_statistics_of(aligned.state, name) if aligned else fit_region_statistics(chunks, reference)
        dna[name] = DNATower(statistics, config.dna.region_pooling, dropout, width)
        if note := dna[name].describe_dropped(store.regions):
            say(f"{name}: {note}")
    specs = [TargetSpec(target.name, target.task, len(target.classes)) for target in fold.targets.targets]
    model = PhenotypeModel(specs, fmri, dna, chosen.head_dropout)
    if aligned:
        model.load_alignment(aligned.state)
    if chosen.official_head and fmri is not None:
        model.take_official_head()
    model.adapt(chosen.adaptation_of(arm), chosen.lora_rank)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    say(f"{MODELS[arm]}, {fold.name}: {trained:,} trained parameters")
    return Built(model, readout, width)


def describe_input(config: PhenotypeConfig, prepared: Prepared, arm: str) -> dict[str, Any]:
    """What a model of these inputs must be fed, in the words of an alignment's description."""
    scans = {"volume_shape": prepared.volume_shape, "orientation": config.data.orientation}
    scans |= {"normalisation": config.data.normalisation, "fmri_pooling": config.fmri.pooling}
    stores = {name: {**store.header, "regions": store.places} for name, store in prepared.dna.items()}
    genomes = {"region_pooling": config.dna.region_pooling, "dna": stores}
    return ({} if arm == "dna" else scans) | ({} if arm == "fmri" else genomes)


def describe(
    config: PhenotypeConfig, prepared: Prepared, fold: CodedFold, arm: str, built: Built, processes: int
) -> dict[str, Any]:
    """What lies beside the weights: how to build and feed the model, and what an interrupted run must find unchanged."""
    chosen = config.phenotype
    encoder = None if arm == "dna" else dataclasses.asdict(built.model.fmri.encoder.config)
    model = {"inputs": arm, "targets": fold.targets.to_json(), "adapt": chosen.adaptation_of(arm), "lora_rank": chosen.lora_rank}
    model |= {"readout": built.readout, "width": built.width, "encoder": encoder}
    run = {"processes": processes, "window": config.train.window, "split_sha256": splits.fingerprint(fold.frozen.split)}
    run |= {} if arm == "dna" else prepared.scan_facts
    return {**describe_input(config, prepared, arm), **model, **run}


def train(
    config: PhenotypeConfig,
    fold: CodedFold,
    model: PhenotypeModel,
    datasets: dict[str, PeopleDataset],
    batches: EpochBatches,
    description: dict[str, Any],
    folder: Path,
    accelerator: Accelerator,
    resumed: bool,
) -> None:
    """The supervised loop; leaves weights, state, steps.csv and epochs.csv in the fit's folder, whole after every epoch."""
    settings, is_main, device = config.train, accelerator.is_main_process, accelerator.device
    loader = DataLoader(datasets["train"], batch_sampler=batches, num_workers=settings.workers, collate_fn=collate_people)
    steps_an_epoch = batches.steps(settings.accumulate)
    optimiser = adamw(model, settings.learning_rate, settings.weight_decay, parameter_depths(model), settings.layer_decay)
    schedule = warm_restarts(optimiser, settings.epochs * steps_an_epoch, settings.cycles, settings.warm_up, settings.cycle_decay)
    parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
    parts |= {"scaler": accelerator.scaler} if accelerator.scaler is not None else {}
    history = checkpoints.load_progress(folder, parts, description) if resumed else checkpoints.History([], [])
    parallel, stepper = accelerator.prepare(model, optimiser)
    values_NP, weights_NP = map(torch.from_numpy, fold.targets.encode(datasets["train"].people))
    chosen_by = fold.targets.encode(datasets["validation"].people)

    bar = tqdm(
        total=settings.epochs * steps_an_epoch, initial=len(history.steps), desc=folder.name, unit="step", disable=not is_main
    )
    for epoch in range(len(history.epochs), settings.epochs):
        if stopped_early([each[CRITERION] for each in history.epochs], settings.patience):
            break
        batches.epoch, order = epoch, torch.from_numpy(batches.order())
        torch.manual_seed((fold.seed * settings.epochs + epoch) * batches.num_processes + batches.process)  # dropout, drop path
        parallel.train()
        summed = torch.zeros((), device=device)
        for number, batch in enumerate(itertools.islice(loader, steps_an_epoch * settings.accumulate)):
            if number % settings.accumulate == 0:  # one optimiser step: its labels are counted over all of its batches
                people = order[number * batches.gathered :][: settings.accumulate * batches.gathered]
                totals_P, summed = weights_NP[people].sum(0).to(device), torch.zeros((), device=device)
            last = (number + 1) % settings.accumulate == 0
            with nullcontext() if last else accelerator.no_sync(parallel):
                dna = {name: rows.to(device) for name, rows in batch.dna.items()}
                logits_BO = parallel(batch.bold_BTCDHW.to(device) if model.fmri is not None else None, dna)
                values_BP, weights_BP = values_NP[batch.person_B].to(device), weights_NP[batch.person_B].to(device)
                losses_BP = phenotype_losses(logits_BO, values_BP, model.targets, config.phenotype.regression_loss)
                loss = weighted_mean(losses_BP, weights_BP, totals_P)
                accelerator.backward(loss * batches.num_processes)  # DDP averages over processes what is a sum over their rows
            summed = summed + loss.detach()
            if not last:
                continue
            where = epoch, len(history.steps), model
            step_loss = sum_with_grad(summed).item()
            require_finite("loss", step_loss, *where)
            norm = accelerator.clip_grad_norm_(parallel.parameters(), settings.gradient_clip)
            if accelerator.scaler is None:  # a scaler skips a step that overflows
                require_finite("gradient norm", norm.item(), *where)
            stepper.step()
            row = {"step": len(history.steps), "epoch": epoch, "loss": step_loss, "learning_rate": schedule.get_last_lr()[-1]}
            history.steps.append(row)
            if not accelerator.optimizer_step_was_skipped:
                schedule.step()
            stepper.zero_grad()
            bar.update()
        mean_loss = sum(step["loss"] for step in history.steps[-steps_an_epoch:]) / steps_an_epoch
        watched = prediction_loss(predict(config, model, datasets["validation"], accelerator), *chosen_by, model.targets)
        require_finite("validation loss", watched, epoch, len(history.steps), model)
        history.epochs.append({"epoch": epoch, "loss_train": mean_loss, CRITERION: watched})
        bar.set_postfix(loss=f"{mean_loss:.3f}", validation=f"{watched:.3f}")
        accelerator.log({f"{folder.name}/{key}": value for key, value in history.epochs[-1].items()}, step=epoch)
        if is_main:
            checkpoints.save_progress(folder, parts, history, description, CRITERION)
    bar.close()
    accelerator.wait_for_everyone()
    accelerator.free_memory()


def predict(
    config: PhenotypeConfig, model: PhenotypeModel, dataset: PeopleDataset, accelerator: Accelerator, title: str | None = None
) -> dict[str, np.ndarray]:
    """One prediction a person in the precision and the memory of the training; a progress bar when there is a title."""
    place = accelerator.device, accelerator.process_index, accelerator.num_processes
    return predict_people(model, dataset, *place, config.train.batch_size, title, accelerator.autocast)


def predict_baselines(config: PhenotypeConfig, prepared: Prepared, dealt: list[CodedFold], say: Say) -> dict[str, dict[str, Any]]:
    """What every simple rival says of every fold's test people: by fold, then target, then rival."""
    chosen, asked = config.evaluation, config.phenotype
    edges_NF = None
    if prepared.runs is not None and {"connectivity", "permuted"} & set(chosen.baselines):
        atlas, paths = chosen.atlas and Path(config.data.root) / chosen.atlas, prepared.runs["store_path"]
        regions = connectivity.cohort_regions(paths, chosen.regions, config.seed, atlas)
        say(f"connectivity between {regions.max()} regions")
        paths_of = prepared.runs.groupby("subject_id")["store_path"].agg(list)
        edges_NF = connectivity.people_connectivity(list(paths_of[prepared.people["subject_id"]]), regions, progress=True)
    covariates = asked.residualise if chosen.covariates is None else chosen.covariates
    inputs = RivalInputs(
        chosen.baselines, edges_NF, prepared.families, covariates, asked.missing_covariates, asked.categories, asked.balanced
    )
    for note in describe_left_out(inputs):
        say(note)
    return predict_rivals(prepared.people, {fold.name: (fold.frozen.split, fold.targets, fold.seed) for fold in dealt}, inputs)


def write_products(
    config: PhenotypeConfig,
    prepared: Prepared,
    dealt: list[CodedFold],
    tested: dict[str, dict[str, dict[str, np.ndarray]]],
    rivals: dict[str, dict[str, Any]],
) -> None:
    """Predictions, figures, curves, provenance and, last because it marks the run as finished, metrics.json."""
    out, data, truth, arms = Path(config.out), config.data, config.data.path("truth"), config.phenotype.arms()
    reference, by_id = MODELS[arms[0]], prepared.people.set_index("subject_id")
    said = {
        fold: {target: {MODELS[arm]: tested[fold][arm][target] for arm in arms} | of_rivals for target, of_rivals in each.items()}
        for fold, each in rivals.items()
    }
    bootstrap = config.evaluation.resamples, config.seed
    settings = ScoreSettings(reference, arms[0], *bootstrap, config.phenotype.residualise, data.preset, truth)
    scored = score_targets(prepared.people, prepared.families, dealt, said, settings)
    drawn = [fold.name for fold in dealt if fold.seed == dealt[0].seed]  # everyone once
    for each in scored:
        write_target(out, each, by_id[each.target.name], drawn)
    fits = {name: write_fit(out / name) for name in (f"{arm}_{fold.name}" for fold in dealt for arm in arms)}
    inputs = data.tables() | {"folds": out / FOLDS, "checkpoint": config.checkpoint}
    inputs |= {"fmri.checkpoint": config.fmri.checkpoint}
    checkpoints.write_json(out / "provenance.json", checkpoints.provenance(inputs, {"fits": fits}))
    people = {fold.name: {part: len(getattr(fold.frozen.split, part)) for part in splits.PARTS} for fold in dealt}
    simulated = {"simulated": truth is not None, "people": people}
    figures = {each.target.name: each.metrics() for each in scored}
    checkpoints.write_json(out / "metrics.json", {"phenotype": figures, **simulated})
    print(f"Everything is in {out}")


if __name__ == "__main__":
    main()
