"""Align scans with genomes: files of a cohort flow in, a run folder with checkpoints, embeddings and retrieval figures flows out.

accelerate launch recipes/contrastive.py [config=FILE] [key=value …]
"""

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from brainmt_align.atomic import write_atomically
from brainmt_align.config import ContrastiveConfig, default_yaml, load_config, to_yaml
from brainmt_align.data import bold_store, dna_store, simulate, simulated_oracle, splits
from brainmt_align.data.cohort import Cohort, read_cohort
from brainmt_align.data.cohort_genomes import fill_genomes
from brainmt_align.data.datasets import EpochBatches, PeopleDataset, collate_people
from brainmt_align.data.family_split import choose_family_split, count_torn
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotypes import list_regions
from brainmt_align.data.kinship import families_of, family_shares
from brainmt_align.data.people_table import parts_of_split, write_people
from brainmt_align.data.scan_facts import describe_scans, require_official
from brainmt_align.data.seen_people import check_unseen
from brainmt_align.evaluation.confounds import AlignmentEvaluation, evaluate_alignment, require_examinable
from brainmt_align.evaluation.embedding import PeopleEmbeddings, embed_people, summarise
from brainmt_align.evaluation.metrics import chance_levels
from brainmt_align.evaluation.retrieval import EmbeddingIndex
from brainmt_align.limits import require_file
from brainmt_align.model.alignment import AlignmentModel, DNATower, Embeddings, FMRITower, fit_region_statistics
from brainmt_align.model.brain import OFFICIAL_ORIENTATION, build_brainmt
from brainmt_align.model.losses import SIGMOID_BIAS, alignment_loss
from brainmt_align.model.rebuilding import model_fingerprint
from brainmt_align.reporting.plots import training_curve
from brainmt_align.reporting.report import write_report
from brainmt_align.reporting.tables import closing_words, retrieval_table
from brainmt_align.training import checkpoints
from brainmt_align.training.allocator import keep_freed_memory
from brainmt_align.training.distributed import (
    end_processes,
    gather_with_grad,
    share_of_work,
    share_text,
    start_processes,
    sum_with_grad,
)
from brainmt_align.training.optimisation import adamw, count_trained, one_cycle, require_finite, require_precision
from brainmt_align.training.run_notes import RunNotes
from brainmt_align.training.tracking import start_tracker
from encoders import load_dna_encoder
from encoders.dna import DNAEncoder

CRITERION = "mean_rank"  # of the validation people; chooses the best checkpoint
Say = Callable[[str], None]
Datasets = dict[str, PeopleDataset]  # by part of the split


class Prepared(NamedTuple):
    """Everything on disk that training reads."""

    cohort: Cohort  # runs carry store_path
    dna: dict[str, dna_store.DNAStore]
    volume_shape: tuple[int, int, int]


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe; returns the run folder."""
    # 1. Configuration and a place for the run: unknown keys, impossible values and foreign folders stop here.
    config = load_config(ContrastiveConfig, sys.argv[1:] if argv is None else argv)
    out = Path(config.out)
    checkpoints.check_run_folder(out, config.checkpoint, config.fmri.checkpoint, config.split.file)

    # 2. Processes, threads, tracker.
    require_precision(config.train.mixed_precision)
    accelerator = start_processes(out, config.threads, config.train.mixed_precision, config.tracker)
    say, is_main = accelerator.print, accelerator.is_main_process
    say(f"{accelerator.num_processes} process(es) on {accelerator.device.type}, {torch.get_num_threads()} threads each")
    notes = RunNotes(accelerator.print)

    # 3. Tables, split, batches, files, DNA encoder: a fault of these costs no minute of preparation.
    people = (cohort := read_people(config, accelerator, notes)).people
    family_of = find_families(config, people)
    frozen = split_people(config, people, family_of, notes.say)
    torn = count_torn(frozen.split, family_of)
    if torn.note:
        notes.say(torn.note)
    members = {part: people[people["subject_id"].isin(getattr(frozen.split, part))] for part in splits.PARTS}
    families = [family_of[person] for person in members["test"]["subject_id"]]
    shares = family_shares(members["test"], families, config.data.path("kinship"), config.split.family_columns())
    examined = config.evaluation.settings(families, config.seed, shares)
    require_examinable(members["test"], examined)
    place = accelerator.process_index, accelerator.num_processes
    batches = EpochBatches(len(members["train"]), config.train.batch_size, config.seed, *place)
    if note := batches.note():
        notes.say(note)
    check_files(config)
    genomes = config.data.genomes_of(people["sample_id"].tolist(), config.stores.alleles)
    if is_main:
        notes.say_of_genotypes(check_genotypes(**genomes))
    accelerator.wait_for_everyone()
    encoder = load_dna_encoder(**config.dna.encoder_words(), device=accelerator.device)
    say(f"{config.dna.encoder}: {encoder.description}")
    dna_store.require_fit(list_regions(**genomes), encoder.max_bases, config.dna.overlap)

    # 4. Stores: the main process fills the scans' and all together the sequences', where something is missing.
    prepared = fill_stores(config, cohort, encoder, accelerator, notes)
    del encoder  # its memory is the training's

    # 5. Datasets and model: whatever else does not fit together stops here, before any training.
    runs = prepared.cohort.runs
    datasets = {part: PeopleDataset(rows, runs, prepared.dna, config.train.window, config.seed) for part, rows in members.items()}
    truth = config.data.path("truth") if is_main else None
    oracle_BB = truth and simulated_oracle.oracle_of_people(truth, runs, members["test"], config.train.window)
    torch.manual_seed(config.seed)
    model = build_model(config, prepared, members["train"], say)

    # 6. Run folder: an interrupted run goes on, an earlier one is kept beside.
    resumed = open_out(out, config, frozen, accelerator)

    # 7. Training; the best checkpoint is chosen on the validation people.
    description = describe(config, model, prepared, frozen.split, accelerator.num_processes)
    if config.train.keep_freed_memory:
        keep_freed_memory()
    train(config, model, datasets, batches, description, accelerator, resumed)

    # 8. The test people, once, with the best weights.
    checkpoints.load_weights(out / "best.safetensors", model)
    embeddings = embed(config, model, datasets["test"], accelerator, "test people" if is_main else None)

    # 9. Figures and products.
    if is_main:
        pair = embeddings.fmri_BE.numpy(), embeddings.dna_BE[config.dna.encoder].numpy()
        EmbeddingIndex(*pair, members["test"], model=model_fingerprint(model.state_dict())).save(out)
        evaluated = evaluate_alignment(*pair, members["test"], examined, oracle_BB)
        evaluated.metrics["verdict"]["words"] = torn.qualify(evaluated.metrics["verdict"]["words"])
        evaluated.metrics["people"] = {"torn": torn.torn} if config.split.torn_families else {}
        write_atomically(out / "runs.tsv", partial(runs.to_csv, sep="\t", index=False))
        write_people(out, people, parts_of_split(frozen.split), columns_looked_at(config))
        write_products(config, model, datasets, evaluated, notes)
        Console().print(retrieval_table(evaluated.metrics["retrieval"]))
        print(evaluated.metrics["verdict"]["words"])
        print(closing_words(out, config.seed, artificial=config.data.artificial_pairs, simulated=bool(config.data.truth)))
        write_report(out, default_yaml(ContrastiveConfig))
    end_processes(accelerator)
    checkpoints.close_run_folder(out)
    return out


def read_people(config: ContrastiveConfig, accelerator: Accelerator, notes: RunNotes) -> Cohort:
    """The cohort's tables; their faults stop here."""
    data, is_main = config.data, accelerator.is_main_process
    with accelerator.main_process_first():
        if data.simulate:
            simulate.write_cohort(Path(data.root), config.simulation, progress=is_main)
        cohort = read_cohort(**data.cohort_words())
    for note in cohort.notes:
        notes.say_of_people(note)
    return cohort


def check_files(config: ContrastiveConfig) -> None:
    """Refuse what is read only after the preparation, where it is not there."""
    require_file("fmri.checkpoint", config.fmri.checkpoint)
    require_file("data.truth", config.data.path("truth"))
    if config.checkpoint:
        checkpoints.read_description(Path(config.checkpoint))


def fill_stores(
    config: ContrastiveConfig, cohort: Cohort, encoder: DNAEncoder, accelerator: Accelerator, notes: RunNotes
) -> Prepared:
    """Fill the stores with whatever they lack; finished parts are left as they are."""
    data, dna = config.data, config.dna
    with accelerator.main_process_first():
        runs = bold_store.build(
            cohort.runs, Path(config.stores.bold), orientation=data.orientation, normalisation=data.normalisation,
            min_frames=config.train.window, tr_s=data.tr_s, progress=accelerator.is_main_process,
        )  # fmt: skip
        volume_shape = bold_store.common_volume_shape(runs)
    genomes = data.genomes_of(cohort.people["sample_id"].tolist(), config.stores.alleles)
    filled = fill_genomes(genomes, encoder, config.stores.dna, **dna.store_words(), **share_of_work(accelerator))
    notes.say(filled.note)
    return Prepared(cohort._replace(runs=runs), {dna.encoder: filled.store}, volume_shape)


def find_families(config: ContrastiveConfig, people: pd.DataFrame) -> dict[str, str]:
    """Every person's family, from all that is named of relatives; everyone is alone where nothing is."""
    columns = config.split.family_columns()
    splits.labels_of(people, [*columns, *config.split.strata])  # unknown columns stop here, all of them at once
    families = families_of(people, columns, config.data.path("kinship"), config.data.kinship_threshold)
    return dict(zip(people["subject_id"], families, strict=True))


def split_people(config: ContrastiveConfig, people: pd.DataFrame, family_of: dict[str, str], say: Say) -> splits.FrozenSplit:
    """The split, families whole; with a checkpoint to start from, one whose test people that checkpoint has not seen."""
    chosen, seed = config.split, config.seed if config.split.seed is None else config.split.seed
    columns = chosen.family_columns()
    if note := splits.describe_families(people, columns[0] if columns else None):
        say(note)
    known = family_of if columns or config.data.kinship else None
    frozen = choose_family_split(people, known, chosen.parts, seed, chosen.strata, chosen.file, chosen.torn_families)
    if known and not chosen.file:  # by what people were kept together, in the words of the configuration
        told = {"groups": chosen.groups, "relatives": list(chosen.relatives), "kinship": bool(config.data.kinship)}
        frozen = frozen._replace(settings=frozen.settings | told)
    examined = [*config.evaluation.strata, *config.evaluation.regressors()]
    splits.labels_of(people, list(dict.fromkeys(examined)), complete=True)  # unknown columns and blanks stop here
    if config.checkpoint and (note := check_unseen(config.checkpoint, frozen.split, family_of)):
        say(note)
    return frozen


def columns_looked_at(config: ContrastiveConfig) -> list[str]:
    """The participants' columns that the settings name."""
    split, evaluation = config.split, config.evaluation
    return [*split.family_columns(), *split.strata, *evaluation.strata, *evaluation.regressors()]


def build_model(config: ContrastiveConfig, prepared: Prepared, training: pd.DataFrame, say: Say) -> AlignmentModel:
    """Both towers; the DNA tower's statistics come from the training people alone."""
    width, dropout, towers = config.alignment.embedding_dim, config.train.projector_dropout, {}
    for name, store in prepared.dna.items():
        chunks = map(torch.from_numpy, store.feature_chunks(training["sample_id"].tolist()))
        statistics = fit_region_statistics(chunks, torch.from_numpy(store.reference))
        towers[name] = DNATower(statistics, config.dna.region_pooling, dropout, width)
    if config.fmri.checkpoint:
        require_official(prepared.cohort.runs, OFFICIAL_ORIENTATION, config.fmri.checkpoint)
    official = config.fmri.checkpoint, config.fmri.trained_volume_shape
    encoder = build_brainmt(prepared.volume_shape, config.train.window, config.fmri.encoder_settings(), *official)
    fmri = FMRITower(encoder, config.fmri.pooling, dropout, width, sum_with_grad)
    bias = SIGMOID_BIAS if config.alignment.loss == "siglip" else None
    model = AlignmentModel(fmri, towers, config.alignment.temperature, bias)
    if config.checkpoint:
        checkpoints.load_weights(Path(config.checkpoint), model, config.describe_input(prepared.volume_shape, prepared.dna))
        model.start_untrained_bias()
    for name, store in prepared.dna.items():
        if note := model.dna[name].describe_dropped(store.regions):
            say(f"{name}: {note}")
    sizes = f"volumes {prepared.volume_shape}, windows of {config.train.window} frames"
    say(f"model: {count_trained(model):,} trained parameters; {sizes}")
    return model


def open_out(out: Path, config: ContrastiveConfig, frozen: splits.FrozenSplit, accelerator: Accelerator) -> bool:
    """Open the run folder on the main process; True on every process when an interrupted run goes on."""
    folder = None
    if accelerator.is_main_process:
        folder = checkpoints.open_run_folder(out, to_yaml(config))
        splits.save_split(out / "split.json", *frozen)
        if folder.note:
            accelerator.print(folder.note)
    return share_text("resumed" if folder and folder.resumed else "") == "resumed"


def describe(
    config: ContrastiveConfig, model: AlignmentModel, prepared: Prepared, split: splits.Split, processes: int
) -> dict[str, Any]:
    """What lies beside the weights: how to build and feed the model, and what an interrupted run must find unchanged."""
    built = {"encoder": dataclasses.asdict(model.fmri.encoder.config), "width": config.alignment.embedding_dim}
    run = {"processes": processes, "window": config.train.window, "split_sha256": splits.fingerprint(split)}
    return {**config.describe_input(prepared.volume_shape, prepared.dna), **built, **run, **describe_scans(prepared.cohort.runs)}


def train(
    config: ContrastiveConfig,
    model: AlignmentModel,
    datasets: Datasets,
    batches: EpochBatches,
    description: dict[str, Any],
    accelerator: Accelerator,
    resumed: bool,
) -> None:
    """The contrastive loop; leaves weights, state, steps.csv and epochs.csv in the run folder, whole after every epoch."""
    out, settings, is_main = Path(config.out), config.train, accelerator.is_main_process
    loader = DataLoader(datasets["train"], batch_sampler=batches, num_workers=settings.workers, collate_fn=collate_people)
    optimiser = adamw(model, settings.learning_rate, settings.weight_decay)
    schedule = one_cycle(optimiser, settings.epochs * len(batches), settings.warm_up)
    parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
    parts |= {"scaler": accelerator.scaler} if accelerator.scaler is not None else {}
    history = checkpoints.load_progress(out, parts, description) if resumed else checkpoints.History([], [])
    parallel, stepper = accelerator.prepare(model, optimiser)
    if config.tracker:
        start_tracker(accelerator, {key: dataclasses.asdict(config)[key] for key in ("fmri", "alignment", "train", "seed")}, out)

    bar = tqdm(
        total=settings.epochs * len(batches), initial=len(history.steps), desc="training", unit="step", disable=not is_main
    )
    for epoch in range(len(history.epochs), settings.epochs):
        batches.epoch = epoch
        torch.manual_seed((config.seed * settings.epochs + epoch) * batches.num_processes + batches.process)  # dropout, drop path
        parallel.train()
        for batch in loader:
            dna = {name: rows.to(accelerator.device) for name, rows in batch.dna.items()}
            outputs = parallel(batch.bold_BTCDHW.to(accelerator.device), dna)
            loss = contrastive_loss(config, outputs)
            where = epoch, len(history.steps), model
            require_finite("loss", loss.item(), *where)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(parallel.parameters(), settings.gradient_clip)
            if accelerator.scaler is None:  # a scaler skips a step that overflows
                require_finite("gradient norm", norm.item(), *where)
            stepper.step()
            model.cap_scale()
            figures = {"loss": loss.item(), "learning_rate": schedule.get_last_lr()[0], "scale": outputs.log_scale.exp().item()}
            history.steps.append({"step": len(history.steps), "epoch": epoch, **figures})
            if not accelerator.optimizer_step_was_skipped:
                schedule.step()
            stepper.zero_grad()
            bar.update()
        mean_loss = sum(step["loss"] for step in history.steps[-len(batches) :]) / len(batches)
        watched = summarise(embed(config, model, datasets["validation"], accelerator))
        history.epochs.append({"epoch": epoch, "loss": mean_loss, **watched})
        bar.set_postfix(loss=f"{mean_loss:.3f}", validation_rank=f"{watched[CRITERION]:.2f}")
        accelerator.log({key: value for key, value in history.epochs[-1].items() if value is not None}, step=epoch)
        if is_main:
            checkpoints.save_progress(out, parts, history, description, CRITERION)
    bar.close()
    accelerator.wait_for_everyone()


def contrastive_loss(config: ContrastiveConfig, outputs: Embeddings) -> Tensor:
    """The configured loss over the rows of all processes, averaged over the DNA encoders."""
    gathered = gather_with_grad(outputs.fmri_BE), {name: gather_with_grad(rows) for name, rows in outputs.dna_BE.items()}
    logits = outputs.log_scale, outputs.logit_bias
    return alignment_loss(config.alignment.loss, *gathered, *logits, config.alignment.label_smoothing)


def embed(
    config: ContrastiveConfig, model: AlignmentModel, dataset: PeopleDataset, accelerator: Accelerator, title: str | None = None
) -> PeopleEmbeddings:
    """One embedding a person in the precision and the memory of the training; a progress bar when there is a title."""
    place = accelerator.device, accelerator.process_index, accelerator.num_processes
    return embed_people(model, dataset, *place, config.train.batch_size, title, accelerator.autocast)


def write_products(
    config: ContrastiveConfig, model: AlignmentModel, datasets: Datasets, evaluated: AlignmentEvaluation, notes: RunNotes
) -> None:
    """Curve, nulls, notes, provenance and, last because it marks the run as finished, metrics.json."""
    out, data = Path(config.out), config.data
    write_atomically(out / "nulls.parquet", evaluated.nulls.to_parquet)
    notes.write(out)
    description = checkpoints.read_description(out / "best.safetensors")
    chance = chance_levels(len(datasets["validation"]))
    curve = training_curve(pd.read_csv(out / "epochs.csv"), chance, best=description["epoch"])
    write_atomically(out / "training_curve.png", partial(curve.savefig, format="png", dpi=150))
    inputs = data.tables() | {"split": out / "split.json"}
    inputs |= {"checkpoint": config.checkpoint, "fmri.checkpoint": config.fmri.checkpoint}
    checkpoints.write_json(out / "provenance.json", checkpoints.provenance(inputs, description))
    metrics = evaluated.metrics | {
        "people": {part: len(dataset) for part, dataset in datasets.items()} | evaluated.metrics["people"],
        "dropped_regions": {name: tower.dropped(list(description["dna"][name]["regions"])) for name, tower in model.dna.items()},
        "best_epoch": description["epoch"],
        "artificial_pairs": data.artificial_pairs,
        "simulated": data.truth is not None,
    }
    checkpoints.write_json(out / "metrics.json", metrics)


if __name__ == "__main__":
    main()
