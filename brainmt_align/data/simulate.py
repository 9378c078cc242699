"""Simulated cohort: parameters flow in; a folder of NIfTI, VCF, FASTA, BED and TSV files with planted signal flows out.

The layout of the folder:

    bold/                 BIDS derivatives: in sub-0001/func/ the run …_desc-preproc_bold.nii.gz, its …_desc-brain_mask.nii.gz
                          and …_desc-confounds_timeseries.tsv
    participants.tsv      participant_id, the simulated covariates and phenotypes; participants.json describes the columns
    genotypes.vcf.gz      phased genotypes, sample ids without `sub-`; .tbi beside it
    reference.fa          reference sequence of all contigs; .fai beside it
    regions.bed           the regions (genes), 0-based half-open
    truth.json            what was planted: parameters, causal variants, genetic values, latent traits, noise, phenotypes
    truth_maps.nii.gz     the true spatial maps, (X, Y, Z, K) and, last, the motion map where heads move
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from brainmt_align.atomic import write_atomically
from brainmt_align.data import simulated_bold as scans
from brainmt_align.data import simulated_genomes as genomes_room
from brainmt_align.data import simulated_phenotypes as phenotypes_room
from brainmt_align.data.simulated_genome_files import variant_id, write_genomes
from brainmt_align.data.simulated_oracle import oracle_scores
from brainmt_align.data.simulated_parameters import NOISE_SD, CohortParameters, generator

__all__ = ["CohortParameters", "oracle_scores", "write_cohort"]

FILES = [
    "participants.tsv",
    "participants.json",
    "genotypes.vcf.gz",
    "genotypes.vcf.gz.tbi",
    "reference.fa",
    "reference.fa.fai",
    "regions.bed",
    "truth_maps.nii.gz",
]
FORMAT = 1  # raised when the same parameters would give other files
# Parameters that cohorts of format 1 may lack: they were written before there were phenotypes, and have none.
LATER = ("phenotypes", "brain_share", "genetic_share", "confound_share", "prevalence", "missing_share")
COLUMNS = {
    "participant_id": {"Description": "simulated person"},
    "age": {"Description": "simulated age at the scan", "Units": "years"},
    "sex": {"Description": "simulated sex", "Levels": {"F": "female", "M": "male"}},
    "site": {"Description": "simulated scanner"},
    "population": {"Description": "simulated population of descent"},
    "family_id": {"Description": "people with the same value are full siblings"},
    **phenotypes_room.COLUMNS,
}


def write_cohort(folder: Path | str, parameters: CohortParameters, progress: bool = True) -> Path:
    """Write a simulated cohort, once.

    All is written into `<folder>.partial` and moved into place when complete. An interrupted cohort of the same parameters goes
    on where it stopped. One process at a time writes a cohort.

    Args:
        folder: where the cohort shall lie; a complete cohort of the same parameters is left as it is.
        parameters: what to simulate.
        progress: show a bar over people.

    Returns:
        The folder.

    Raises:
        ValueError: parameters that cannot be simulated, or a folder that holds a cohort of other parameters.
        FileExistsError: the folder, or `<folder>.partial`, holds something else than a simulated cohort, or files of it are gone.
        RuntimeError: the regions never held enough common variants, or none that a phenotype could have for itself.
    """
    parameters.check()
    folder = Path(folder)
    if _is_there(folder, parameters):
        return folder
    partial = folder.with_name(f"{folder.name}.partial")
    _open_partial(partial, parameters)
    genomes = genomes_room.draw_genomes(parameters)
    phenotypes = phenotypes_room.plan_phenotypes(parameters, genomes) if parameters.phenotypes else []
    write_genomes(partial, genomes, parameters.sample_ids, [phenotype.direct for phenotype in phenotypes])
    people = _draw_people(parameters, genomes.values_PK)
    drawn = {each.name: phenotypes_room.draw_phenotype(parameters, each, genomes, people) for each in phenotypes}
    _write_participants(partial, parameters, people, drawn)
    brain = scans.make_brain(parameters)
    scans.write_description(partial, parameters.tr_s)
    for person in tqdm(people, desc="simulated scans", unit="run", disable=not progress):
        scans.write_run(partial, parameters, brain, person)
    truth = _make_truth(parameters, genomes, people)
    if phenotypes:
        truth |= _truth_of_phenotypes(parameters, genomes, phenotypes)
        for sample_id, known in truth["people"].items():
            known["phenotypes"] = {name: table.loc[sample_id].to_dict() for name, table in drawn.items()}
    _write_truth(partial, parameters, truth, brain)
    partial.replace(folder)
    (folder / "parameters.json").unlink()
    return folder


def _as_json(parameters: CohortParameters) -> dict:
    """The parameters and the files' format, as they come back from a JSON file."""
    return json.loads(json.dumps({"format": FORMAT, **dataclasses.asdict(parameters)}))


def _differences(found: dict, parameters: CohortParameters) -> list[str]:
    wanted = _as_json(parameters)
    if "phenotypes" not in found:
        defaults = _as_json(CohortParameters())
        found = {**found, **{name: defaults[name] for name in LATER}}
    names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return [f"{name}: {found.get(name)!r} there, {wanted.get(name)!r} asked for" for name in names]


def _is_there(folder: Path, parameters: CohortParameters) -> bool:
    """Whether the folder already holds the whole cohort; anything else in it is refused rather than overwritten."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    truth = folder / "truth.json"
    if not truth.is_file():
        raise FileExistsError(
            f"Simulated cohort: expected a new folder, got one that holds something else (no truth.json).\n  file: {folder}\n"
            "  fix: name another folder."
        )
    differences = _differences(json.loads(truth.read_text())["parameters"], parameters)
    if differences:
        lines = "".join(f"\n  {line}" for line in differences)
        raise ValueError(
            f"Simulated cohort: one of other parameters lies there already.{lines}\n  file: {folder}\n"
            "  fix: name another folder, ask for the parameters there, or remove the folder."
        )
    expected = [folder / name for name in FILES] + scans.shared_paths(folder)
    expected += [path for sample_id in parameters.sample_ids for path in scans.run_paths(folder, sample_id)]
    missing = [path for path in expected if not path.is_file()]
    if missing:
        raise FileExistsError(
            f"Simulated cohort: expected {len(expected)} files, {len(missing)} of them are gone, the first {missing[0].name}.\n"
            f"  file: {folder}\n  fix: remove the folder; it is then simulated anew, the same."
        )
    return True


def _open_partial(partial: Path, parameters: CohortParameters) -> None:
    """Make the partial folder, or take up that of an interrupted run; one of other parameters is started anew."""
    note = partial / "parameters.json"
    if note.is_file():
        if not _differences(json.loads(note.read_text()), parameters):
            return
        shutil.rmtree(partial)
    elif partial.exists() and (not partial.is_dir() or any(partial.iterdir())):
        raise FileExistsError(
            f"Simulated cohort: expected the partial folder of an interrupted run, got something else (no parameters.json).\n"
            f"  file: {partial}\n  fix: move it away."
        )
    partial.mkdir(parents=True, exist_ok=True)
    write_atomically(note, lambda path: path.write_text(json.dumps(_as_json(parameters))))


def _draw_people(parameters: CohortParameters, values_PK: np.ndarray) -> list[scans.Person]:
    """Latent traits and covariates of everybody."""
    people = []
    for index, values_K in enumerate(values_PK):
        chance_K = generator(parameters.seed, "latent", index).standard_normal(len(values_K))
        rng = generator(parameters.seed, "covariates", index)
        people.append(
            scans.Person(
                index=index,
                latent_K=np.sqrt(parameters.coupling) * values_K + np.sqrt(1 - parameters.coupling) * chance_K,
                age=round(float(rng.uniform(45, 80)), 1),
                sex=str(rng.choice(["F", "M"])),
                site=int(rng.random() * parameters.sites),
                population=index // parameters.family_size % parameters.populations,
            )
        )
    return people


def _covariates(parameters: CohortParameters, person: scans.Person) -> dict:
    """The columns of a person beside the id; what is not simulated has no column."""
    columns = {}
    if parameters.age:
        columns["age"] = person.age
    if parameters.sex:
        columns["sex"] = person.sex
    if parameters.sites > 1:
        columns["site"] = f"site{person.site + 1}"
    if parameters.populations > 1:
        columns["population"] = "AB"[person.population]
    if parameters.family_size > 1:
        columns["family_id"] = f"F{person.index // parameters.family_size + 1:04d}"
    return columns


def _write_participants(
    folder: Path, parameters: CohortParameters, people: list[scans.Person], drawn: dict[str, pd.DataFrame]
) -> None:
    rows = [
        {"participant_id": f"sub-{parameters.sample_ids[person.index]}", **_covariates(parameters, person)} for person in people
    ]
    table = pd.DataFrame(rows)
    for name, phenotype in drawn.items():
        table[name] = phenotype["value"].mask(phenotype["blank"]).to_numpy()
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    described = {name: COLUMNS[name] for name in table.columns}
    write_atomically(folder / "participants.json", lambda path: path.write_text(json.dumps(described, indent=2) + "\n"))


def _make_truth(parameters: CohortParameters, genomes: genomes_room.Genomes, people: list[scans.Person]) -> dict:
    """What truth.json says, but for the phenotypes."""
    moves = parameters.motion_mm > 0
    return {
        "description": (
            "Simulated: nobody was scanned or sequenced. BOLD(v, t) = site_scale * (static(v) + signal_sd * sum_k "
            "exp(amplitude * latent_k) * map_k(v) * s_k(t) + motion(v, t) + noise(v, t)); s_k and noise are AR(1) of SD 1 and "
            "noise_sd. latent = sqrt(coupling) * genetic_value + sqrt(1 - coupling) * N(0, 1); genetic_value = sum(effect * "
            "number of ALT alleles) - mean. Positions are 1-based as in the VCF."
        ),
        "parameters": _as_json(parameters),
        "signal_sd": parameters.signal_sd,
        "noise_sd": NOISE_SD,
        "maps": {"file": "truth_maps.nii.gz", "volumes": [trait.name for trait in genomes.traits] + ["motion"] * moves},
        "site_scales": scans.site_scales(parameters).tolist(),
        "traits": [_trait_entry(trait, genomes.regions) for trait in genomes.traits],
        "people": {
            parameters.sample_ids[person.index]: {
                "genetic_values": genomes.values_PK[person.index].tolist(),
                "latent": person.latent_K.tolist(),
                "site_scale": float(scans.site_scales(parameters)[person.site]),
                **_covariates(parameters, person),
            }
            for person in people
        },
    }


def _truth_of_phenotypes(
    parameters: CohortParameters, genomes: genomes_room.Genomes, phenotypes: list[phenotypes_room.Phenotype]
) -> dict:
    """What truth.json says of the phenotypes as such; people's components stand with the people."""
    entries = {
        each.name: {**phenotypes_room.describe(parameters, each), "direct": _trait_entry(each.direct, genomes.regions)}
        for each in phenotypes
    }
    return {"phenotype_model": phenotypes_room.MODEL, "phenotypes": entries}


def _write_truth(folder: Path, parameters: CohortParameters, truth: dict, brain: scans.Brain) -> None:
    """Write truth_maps.nii.gz and truth.json; the latter completes the cohort."""
    maps_VK = np.column_stack([brain.maps_VK, brain.edge_V]) if parameters.motion_mm > 0 else brain.maps_VK
    maps_XYZK = np.zeros((*brain.mask_XYZ.shape, maps_VK.shape[1]), dtype=np.float32)
    maps_XYZK[brain.mask_XYZ] = maps_VK
    scans.save_volume(folder / "truth_maps.nii.gz", maps_XYZK, brain.affine)
    write_atomically(folder / "truth.json", lambda path: path.write_text(json.dumps(truth, indent=1) + "\n"))


def _trait_entry(trait: genomes_room.Trait, regions: list[genomes_room.FounderRegion]) -> dict:
    variants = []
    for variant in trait.variants:
        region = regions[variant.region]
        variants.append(
            {
                "id": variant_id(region, variant.site),
                "region": region.name,
                "contig": region.contig,
                "position": int(region.positions[variant.site]) + 1,
                "ref": region.refs[variant.site],
                "alt": region.alts[variant.site],
                "effect": variant.effect,
            }
        )
    return {"name": trait.name, "mean": trait.mean, "variants": variants}
