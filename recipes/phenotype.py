"""Predict phenotypes: files of a cohort flow in; a run folder with models, predictions and baselines beside them flows out.

accelerate launch recipes/phenotype.py [config=FILE] [key=value …]
"""

import dataclasses
import itertools
import json
import re
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
from rich.console import Console
from torch.utils.data import DataLoader
from tqdm import tqdm

from brainmt_align.atomic import write_atomically
from brainmt_align.config import PhenotypeConfig, default_yaml, load_config, to_yaml
from brainmt_align.data import bold_store, dna_store, folds, simulate, splits
from brainmt_align.data.cohort import Cohort, read_cohort
from brainmt_align.data.datasets import EpochBatches, PeopleDataset, collate_people
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotypes import list_regions, read_haplotypes
from brainmt_align.data.kinship import families_of, join_groups
from brainmt_align.data.phenotype_presets import unit_of
from brainmt_align.data.planted_phenotypes import planted_predictions, planted_targets, planted_truth
from brainmt_align.data.regions import read_regions
from brainmt_align.data.targets import FittedTargets, TargetCoding, check_parts, describe_targets, fit_targets
from brainmt_align.evaluation import connectivity
from brainmt_align.evaluation.comparison import ScoredFold, compare_rivals, pool, predictions_table
from brainmt_align.evaluation.prediction import predict_people, prediction_loss
from brainmt_align.evaluation.rivals import RivalInputs, describe_left_out, predict_rivals
from brainmt_align.limits import complain, require_file
from brainmt_align.model.alignment import DNATower, fit_region_statistics, region_statistics_of
from brainmt_align.model.brain import OFFICIAL_ORIENTATION, build_brainmt, rebuild_brainmt
from brainmt_align.model.heads import TargetSpec
from brainmt_align.model.losses import phenotype_losses, weighted_mean
from brainmt_align.model.phenotype import PhenotypeModel, build_fmri_tower, parameter_depths
from brainmt_align.reporting.phenotype_figures import figures_of_target
from brainmt_align.reporting.phenotype_table import closing_verdict, comparison_table
from brainmt_align.reporting.plots import training_curve
from brainmt_align.reporting.report import write_report
from brainmt_align.training import checkpoints
from brainmt_align.training.allocator import keep_freed_memory
from brainmt_align.training.distributed import end_processes, share_of_work, share_text, start_processes, sum_with_grad
from brainmt_align.training.optimisation import adamw, require_finite, require_precision, warm_restarts
from brainmt_align.training.run_notes import RunNotes
from brainmt_align.training.tracking import start_tracker
from encoders import load_dna_encoder

CRITERION = "loss_validation"  # chooses the best checkpoint of a fit
MODELS = {"fmri": "BrainMT", "dna": "DNA", "both": "BrainMT + DNA"}
TOGETHER = "kept_together"  # column of families and sites joined
ORACLE = "planted (oracle)"
FOLDS = "folds.json"  # every fold's fingerprint; a run that holds it and no metrics.json was interrupted
Say = Callable[[str], None]


class Fold(NamedTuple):
    """One dealing of the people into parts, and the targets as its training people code them."""

    seed: int
    number: int
    frozen: splits.FrozenSplit
    targets: FittedTargets

    @property
    def name(self) -> str:
        return f"seed{self.seed}_fold{self.number}"


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


def deal_folds(
    config: PhenotypeConfig, people: pd.DataFrame, families: list[str], described: tuple[TargetCoding, ...], say: Say
) -> list[Fold]:
    """Every split of every seed, its targets fitted on its training people; what leaks, cannot be learnt or scored stops here."""
    chosen, seed = config.split, config.seed if config.split.seed is None else config.split.seed
    sites = [splits.labels_of(people, [chosen.sites], complete=True)] if chosen.sites else []
    known = bool(chosen.groups or chosen.relatives or config.data.kinship)
    together = join_groups(people["subject_id"].tolist(), *([families] if known else []), *sites)
    grouped = people.assign(**{TOGETHER: together})
    family_of = dict(zip(people["subject_id"], families, strict=True))
    dealt = []
    for repeat in range(seed, seed + chosen.repeats):
        split_files = folds.choose_folds(grouped, chosen.folds, chosen.parts, repeat, TOGETHER, chosen.strata, chosen.file)
        if not chosen.torn_families:
            folds.check_folds([frozen.split for frozen in split_files], family_of)
        for number, frozen in enumerate(split_files):
            if config.checkpoint and (note := splits.check_unseen(config.checkpoint, frozen.split, family_of)):
                say(note)
            parts = {part: people[people["subject_id"].isin(getattr(frozen.split, part))] for part in splits.PARTS}
            check_parts(parts, described, f"seed {repeat}, fold {number}")
            chosen_for = config.phenotype
            words = chosen_for.residualise, chosen_for.balanced, chosen_for.missing_covariates, chosen_for.categories
            dealt.append(Fold(repeat, number, frozen, fit_targets(parts["train"], described, *words)))
    return dealt


def fill_stores(
    config: PhenotypeConfig, cohort: Cohort, families: list[str], accelerator: Accelerator, notes: RunNotes
) -> Prepared:
    """Fill the stores that the inputs need with whatever they lack; finished parts are left as they are."""
    data, dna, runs, shape, stores, facts = config.data, config.dna, None, None, {}, {}
    if config.phenotype.inputs != "fmri":
        genomes = data.genomes_of(cohort.people["sample_id"].tolist())
        for note in check_genotypes(**genomes) if accelerator.is_main_process else []:
            notes.say(note)
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
        opened = [bold_store.open_run(path) for path in runs["store_path"]]
        if config.fmri.checkpoint:
            wanted_by = f"the official weights {config.fmri.checkpoint}"
            bold_store.check_orientation(opened, OFFICIAL_ORIENTATION, wanted_by)
        facts = {
            "bold_sha256": bold_store.sources_hash(runs["store_path"]),
            "tr_s": sorted({round(run.tr_s, 3) for run in opened}),
        }
    if config.phenotype.inputs != "fmri":
        filled = dna_store.build(
            read_haplotypes(**genomes), encoder, config.stores.dna, **dna.store_words(), **share_of_work(accelerator)
        )
        notes.say(dna_store.describe_build(filled))
        stores[dna.encoder] = dna_store.open_store(filled.folder, [each.name for each in read_regions(data.path("regions"))])
    return Prepared(cohort.people, families, runs, stores, shape, facts)


def check_fits(config: PhenotypeConfig, prepared: Prepared, dealt: list[Fold], accelerator: Accelerator) -> None:
    """Refuse what no fit could start with, before an earlier run is moved aside and before any baseline is computed."""
    for arm in config.phenotype.arms() if config.checkpoint else ():
        recorded = checkpoints.require_description(Path(config.checkpoint), describe_input(config, prepared, arm), "an alignment")
        if arm != "dna":
            rebuild_brainmt(recorded["encoder"], config.train.window)
    place = accelerator.process_index, accelerator.num_processes
    for fold in dealt:
        steps = count_steps(
            config, EpochBatches(len(fold.frozen.split.train), config.train.batch_size, fold.seed, *place, at_least=1)
        )
        if config.train.cycles > steps * config.train.epochs:
            complain(
                f"train.cycles must be at most {steps * config.train.epochs}, the optimiser steps of {fold.name}",
                config.train.cycles,
                "train.cycles=1",
            )


def count_steps(config: PhenotypeConfig, batches: EpochBatches) -> int:
    """Optimiser steps an epoch; batches that do not fill a step are left out, as people who do not fill a batch are."""
    steps = len(batches) // config.train.accumulate
    if not steps:
        complain(
            f"train.accumulate must be at most {len(batches)}, the batches of {batches.gathered} that "
            f"{batches.num_people} training people fill",
            config.train.accumulate,
            f"train.accumulate={len(batches)}",
        )
    return steps


def open_out(out: Path, config: PhenotypeConfig, dealt: list[Fold], accelerator: Accelerator) -> bool:
    """Open the run folder on the main process and freeze the folds in it; True everywhere when an interrupted run goes on."""
    folder = None
    if accelerator.is_main_process:
        folder = checkpoints.open_run_folder(out, to_yaml(config), resumable=FOLDS)
        if folder.note:
            accelerator.print(folder.note)
        frozen = {fold.name: splits.fingerprint(fold.frozen.split) for fold in dealt}
        if folder.resumed and (began := json.loads((out / FOLDS).read_text())) != frozen:
            differ = ", ".join(sorted(name for name in {**began, **frozen} if began.get(name) != frozen.get(name)))
            raise ValueError(
                f"An interrupted run can only go on with the people and folds that it began with, got others in {differ}.\n"
                f"  file: {out / FOLDS}\n  fix: bring back the tables as they were, or set out= to another place."
            )
        for fold in dealt:
            for arm in config.phenotype.arms():
                (out / f"{arm}_{fold.name}").mkdir(exist_ok=True)
                splits.save_split(out / f"{arm}_{fold.name}" / "split.json", *fold.frozen)
        checkpoints.write_json(out / FOLDS, frozen)
    return share_text("resumed" if folder and folder.resumed else "") == "resumed"


def fit(
    config: PhenotypeConfig, prepared: Prepared, fold: Fold, arm: str, accelerator: Accelerator, resumed: bool
) -> dict[str, np.ndarray]:
    """Train one model and predict its test people, in the targets' own units; its folder holds whatever it leaves."""
    folder, people, split = Path(config.out) / f"{arm}_{fold.name}", prepared.people, fold.frozen.split
    place = accelerator.process_index, accelerator.num_processes
    runs, stores = None if arm == "dna" else prepared.runs, {} if arm == "fmri" else prepared.dna
    datasets = {
        part: PeopleDataset(people[people["subject_id"].isin(getattr(split, part))], runs, stores, config.train.window, fold.seed)
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


def build_model(config: PhenotypeConfig, prepared: Prepared, fold: Fold, arm: str, training: pd.DataFrame, say: Say) -> Built:
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
    model = PhenotypeModel(specs_of(fold.targets), fmri, dna, chosen.head_dropout)
    if aligned:
        model.load_alignment(aligned.state)
    if chosen.official_head and fmri is not None:
        model.take_official_head()
    model.adapt(adaptation_of(config, arm), chosen.lora_rank)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    say(f"{MODELS[arm]}, {fold.name}: {trained:,} trained parameters")
    return Built(model, readout, width)


def adaptation_of(config: PhenotypeConfig, arm: str) -> str:
    """What of the towers is trained; LoRA is the brain's, so that beside it a model of genomes alone is trained in full."""
    return "full" if arm == "dna" and config.phenotype.adapt == "lora" else config.phenotype.adapt


def specs_of(targets: FittedTargets) -> list[TargetSpec]:
    """What the head and the losses must know of the targets."""
    return [TargetSpec(target.name, target.task, len(target.classes)) for target in targets.targets]


def describe_input(config: PhenotypeConfig, prepared: Prepared, arm: str) -> dict[str, Any]:
    """What a model of these inputs must be fed, in the words of an alignment's description."""
    described: dict[str, Any] = {}
    if arm != "dna":
        scans = {"volume_shape": prepared.volume_shape, "orientation": config.data.orientation}
        described |= {**scans, "normalisation": config.data.normalisation, "fmri_pooling": config.fmri.pooling}
    if arm != "fmri":
        stores = {name: {**store.header, "regions": store.places} for name, store in prepared.dna.items()}
        described |= {"region_pooling": config.dna.region_pooling, "dna": stores}
    return described


def describe(config: PhenotypeConfig, prepared: Prepared, fold: Fold, arm: str, built: Built, processes: int) -> dict[str, Any]:
    """What lies beside the weights: how to build and feed the model, and what an interrupted run must find unchanged."""
    chosen = config.phenotype
    encoder = None if arm == "dna" else dataclasses.asdict(built.model.fmri.encoder.config)
    model = {"inputs": arm, "targets": fold.targets.to_json(), "adapt": adaptation_of(config, arm), "lora_rank": chosen.lora_rank}
    model |= {"readout": built.readout, "width": built.width, "encoder": encoder}
    run = {"processes": processes, "window": config.train.window, "split_sha256": splits.fingerprint(fold.frozen.split)}
    run |= {} if arm == "dna" else prepared.scan_facts
    return {**describe_input(config, prepared, arm), **model, **run}


def train(
    config: PhenotypeConfig,
    fold: Fold,
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
    steps_an_epoch = count_steps(config, batches)
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
        if stopped_early(history.epochs, settings.patience):
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


def stopped_early(epochs: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether the best epoch lies `patience` epochs back."""
    scores = [epoch[CRITERION] for epoch in epochs]
    return bool(patience and scores) and len(scores) - 1 - scores.index(min(scores)) >= patience


def predict(
    config: PhenotypeConfig, model: PhenotypeModel, dataset: PeopleDataset, accelerator: Accelerator, title: str | None = None
) -> dict[str, np.ndarray]:
    """One prediction a person in the precision and the memory of the training; a progress bar when there is a title."""
    place = accelerator.device, accelerator.process_index, accelerator.num_processes
    return predict_people(model, dataset, *place, config.train.batch_size, title, accelerator.autocast)


def predict_baselines(config: PhenotypeConfig, prepared: Prepared, dealt: list[Fold], say: Say) -> dict[str, dict[str, Any]]:
    """What every simple rival says of every fold's test people: by fold, then target, then rival."""
    chosen, asked = config.evaluation, config.phenotype
    edges_NF = None
    if prepared.runs is not None and {"connectivity", "permuted"} & set(chosen.baselines):
        paths = prepared.runs.groupby("subject_id")["store_path"].agg(list)
        opened = [bold_store.open_run(path) for path in prepared.runs["store_path"]]
        atlas = chosen.atlas and Path(config.data.root) / chosen.atlas
        regions = (
            connectivity.atlas_regions(atlas, opened) if atlas else connectivity.grid_regions(opened, chosen.regions, config.seed)
        )
        say(f"connectivity between {regions.max()} regions")
        of_people = [paths[subject] for subject in prepared.people["subject_id"]]
        edges_NF = connectivity.people_connectivity(of_people, regions, progress=True)
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
    dealt: list[Fold],
    tested: dict[str, dict[str, dict[str, np.ndarray]]],
    rivals: dict[str, dict[str, Any]],
) -> None:
    """Predictions, figures, curves, provenance and, last because it marks the run as finished, metrics.json."""
    out, data, truth, arms = Path(config.out), config.data, config.data.path("truth"), config.phenotype.arms()
    by_id = prepared.people.set_index("subject_id")
    family_of = dict(zip(prepared.people["subject_id"], prepared.families, strict=True))
    entries, reference = {}, MODELS[arms[0]]
    for number, target in enumerate(dealt[0].targets.targets):
        scored, planted = [], truth is not None and target.name in planted_targets(truth)
        for fold in dealt:
            test = prepared.people[prepared.people["subject_id"].isin(fold.frozen.split.test)]
            ids, coding = test["subject_id"].tolist(), fold.targets.targets[number]
            said = {MODELS[arm]: tested[fold.name][arm][target.name] for arm in arms} | rivals[fold.name][target.name]
            if planted:
                said[ORACLE] = planted_predictions(truth, ids, target.name, inputs=arms[0], classes=target.classes or None)
            observed_N, groups = fold.targets.observed(test, coding), [family_of[subject] for subject in ids]
            scored.append(ScoredFold(fold.name, ids, groups, observed_N, said))
        entry = compare_rivals(target.task, scored, reference, config.evaluation.resamples, config.seed)
        entry["positive_class"] = target.classes[1] if target.task == "binary" else None
        entry["unit"] = unit_of(config.data.preset, target.name)
        entry["residualised_on"] = list(config.phenotype.residualise) if target.task == "regression" else []
        entry["planted"] = planted_truth(truth, target.name, inputs=arms[0]) if planted else None
        entries[target.name] = entry
        stem = re.sub(r"[^\w.-]", "_", target.name)
        table = predictions_table(scored, target.classes, by_id[target.name])
        write_atomically(out / f"predictions_{stem}.csv", partial(table.to_csv, index=False))
        pooled = pool([fold for fold in scored if fold.name.startswith(f"seed{dealt[0].seed}_")])  # everyone once
        areas = {rival: shown_area(each) for rival, each in entry["figures"].items()}
        drawn = figures_of_target(target.name, target.task, target.classes, pooled.observed_N, pooled.predictions, areas)
        for name, figure in drawn.items():
            write_atomically(out / f"{name}_{stem}.png", partial(figure.savefig, format="png", dpi=150))
        Console(width=None if sys.stdout.isatty() else 120).print(comparison_table(target.name, entry))
        print(closing_verdict(target.name, entry))
    fits = {}
    for fold in dealt:
        for arm in arms:
            folder = out / f"{arm}_{fold.name}"
            fits[folder.name] = checkpoints.read_description(folder / "best.safetensors")
            best = fits[folder.name]["epoch"]
            curve = training_curve(pd.read_csv(folder / "epochs.csv"), None, best, folder.name, "loss, mean over targets")
            write_atomically(folder / "training_curve.png", partial(curve.savefig, format="png", dpi=150))
    keys = ("participants", "kinship", "genotypes", "reference", "regions", "pairs", "id_map", "mask", "truth")
    inputs = {key: data.path(key) for key in keys} | {"folds": out / FOLDS, "checkpoint": config.checkpoint}
    inputs |= {"fmri.checkpoint": config.fmri.checkpoint}
    checkpoints.write_json(out / "provenance.json", checkpoints.provenance(inputs, {"fits": fits}))
    figures = {
        name: {metric: each["value"] for metric, each in entry["figures"][reference].items()} | {"comparison": entry}
        for name, entry in entries.items()
    }
    people = {fold.name: {part: len(getattr(fold.frozen.split, part)) for part in splits.PARTS} for fold in dealt}
    simulated = {"simulated": truth is not None, "people": people}
    checkpoints.write_json(out / "metrics.json", {"phenotype": figures, **simulated})
    print(f"Everything is in {out}")


def shown_area(figures: dict[str, dict[str, float | None]]) -> str:
    """The area under the ROC curve as the figure shows it: the mean over folds, where the curve pools them."""
    area = figures.get("auroc", {}).get("value")
    return "AUROC n/a" if area is None else f"AUROC {area:.2f}"


if __name__ == "__main__":
    main()
