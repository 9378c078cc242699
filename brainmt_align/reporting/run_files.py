"""What a run left: its folder flows in; settings, figures and tables, as far as they lie there, flow out as one RunFiles."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import pandas as pd
import yaml
from safetensors.numpy import load_file

ID_COLUMNS = ("subject_id", "sample_id", "participant_id", "run_id", "family_id", "eid", "iid", "fid", "subject", "name")
FAMILY_COLUMNS = ("family_id",)
STRATA_COLUMNS = ("population", "site")
SHORT = 4  # an id of fewer digits is also a count: it is hidden only behind sub-


class RunFiles(NamedTuple):
    """Contents of a run folder; None, or empty, where a file is not there."""

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    notes: list[str]
    epochs: dict[str, pd.DataFrame]  # by fit; "" is the run's own
    embeddings: dict[str, Any] | None  # fmri, dna (N, E) and people, a table in the same order
    nulls: pd.DataFrame | None  # test, statistic
    regions: pd.DataFrame | None  # region_attribution.tsv
    voxels: nib.spatialimages.SpatialImage | None
    voxels_t: nib.spatialimages.SpatialImage | None
    genotype_checks: pd.DataFrame | None  # genotype_checks.tsv
    sensitivity: pd.DataFrame | None  # variant_sensitivity.tsv
    runs: pd.DataFrame | None  # runs.tsv
    predictions: pd.DataFrame | None  # predictions.csv, of people whom a checkpoint was shown
    participants: pd.DataFrame | None  # of a simulation
    people: pd.DataFrame | None  # people.tsv: subject_id, part, columns that the settings name
    families: list[str]  # columns whose equal values tell relatives, as the settings name them
    hide: Callable[[str], str]  # replaces the ids of this run's people in a text


def read_run(folder: Path) -> RunFiles:
    """Read what a run folder holds.

    Args:
        folder: of a run that has written config.yaml and metrics.json.

    Raises:
        FileNotFoundError: no config.yaml or no metrics.json.
        ValueError: a file that cannot be read as what its name says, or embeddings and people of different numbers.
    """
    folder = Path(folder)
    for name in ("config.yaml", "metrics.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"The folder of a finished run was expected, got one without {name}.\n  file: {folder}\n"
                "  fix: name the out= of a run that has ended."
            )
    fits = {path.parent.name if path.parent != folder else "": path for path in sorted(folder.glob("**/epochs.csv"))}
    config = _read(folder / "config.yaml", _mapping_of_yaml) or {}
    return RunFiles(
        folder=folder,
        config=config,
        metrics=_read(folder / "metrics.json", _mapping_of_json) or {},
        provenance=_read(folder / "provenance.json", _mapping_of_json) or {},
        notes=list((_read(folder / "notes.json", _mapping_of_json) or {}).get("notes", [])),
        epochs={fit: _read(path, pd.read_csv) for fit, path in fits.items()},
        embeddings=_read_embeddings(folder),
        nulls=_read(folder / "nulls.parquet", pd.read_parquet),
        regions=_read(folder / "region_attribution.tsv", _tsv),
        voxels=_read(folder / "voxel_attribution.nii.gz", _image),
        voxels_t=_read(folder / "voxel_attribution_t.nii.gz", _image),
        genotype_checks=_read(folder / "genotype_checks.tsv", _tsv),
        sensitivity=_read(folder / "variant_sensitivity.tsv", _tsv),
        runs=_read(folder / "runs.tsv", _tsv),
        predictions=_read(folder / "predictions.csv", pd.read_csv),
        participants=_read(folder / "participants.tsv", _tsv),
        people=_read(folder / "people.tsv", _tsv),
        families=family_columns(config),
        hide=hider(_ids_of(folder, family_columns(config))),
    )


def family_columns(config: Mapping[str, Any]) -> list[str]:
    """Columns of relatives that a run's settings name, the most telling first, then the usual name.

    Args:
        config: nested settings of any recipe; a site or a population that is held together in a split is no family.
    """
    split, export = (config.get(key) or {} for key in ("split", "export"))
    named = [split.get("groups"), config.get("groups"), *(split.get("relatives") or []), *(config.get("relatives") or [])]
    named += [export.get("family_ids"), *FAMILY_COLUMNS]
    return [name for name in dict.fromkeys(named) if name and name not in STRATA_COLUMNS]


def hider(ids: set[str]) -> Callable[[str], str]:
    """A function that replaces every id in a text by "(a person)", with or without sub-.

    Args:
        ids: of people, scans and genomes; a plain number of fewer than 4 digits is also a count and a single letter also a word:
            those are hidden only after "sub-". Digits behind a decimal point are no id.
    """

    def hide(text: str) -> str:
        present = sorted((each for each in ids if each and each in text), key=len, reverse=True)
        counts = [each for each in present if (each.isdigit() and len(each) < SHORT) or len(each) == 1]
        plain = [each for each in present if each not in counts]
        for prefix, group in (("(?:sub-)?", plain), ("sub-", counts)):
            if group:
                pattern = rf"(?<![A-Za-z0-9])(?<!\d\.){prefix}(?:{'|'.join(map(re.escape, group))})(?![A-Za-z0-9])"
                text = re.sub(pattern, "(a person)", text)
        return text

    return hide


def _ids_of(folder: Path, families: Sequence[str]) -> set[str]:
    """Ids in any file of the folder that names people, and the labels of their families."""
    tables = [_read(path, _tsv) for path in (folder / "runs.tsv", folder / "participants.tsv", folder / "people.tsv")]
    tables += [_read(path, lambda each: pd.read_csv(each, dtype=str)) for path in sorted(folder.glob("predictions*.csv"))]
    tables += [_read(path, _phenotype_file) for path in sorted(folder.glob("*.pheno.txt"))]
    tables.append(_read(folder / "embeddings.parquet", pd.read_parquet))
    ids: set[str] = set()
    for table in tables:
        for name in () if table is None else table.columns:
            if name in families or str(name).lower().lstrip("#") in ID_COLUMNS:
                ids |= set(table[name].dropna().astype(str))
    for path in sorted(folder.glob("**/split.json")):
        split = _read(path, _mapping_of_json)
        ids |= {str(each) for part in ("train", "validation", "test") for each in split.get(part, [])}
    return ids | {each.removeprefix("sub-") for each in ids}


def _read_embeddings(folder: Path) -> dict[str, Any] | None:
    arrays = _read(folder / "embeddings.safetensors", load_file)
    people = _read(folder / "embeddings.parquet", pd.read_parquet)
    if arrays is None or people is None:
        return None
    shapes = {name: array.shape for name, array in arrays.items()}
    if not {"fmri", "dna"} <= set(arrays) or any(len(arrays[name]) != len(people) for name in ("fmri", "dna")):
        raise ValueError(
            f"Embeddings fmri and dna with one row a person of embeddings.parquet ({len(people)}) were expected, got {shapes}.\n"
            f"  file: {folder / 'embeddings.safetensors'}\n  fix: write both files anew with the recipe that left them."
        )
    return {"fmri": arrays["fmri"], "dna": arrays["dna"], "people": people.reset_index(drop=True)}


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """What `reader` makes of a file, None where there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return reader(path)
    except Exception as error:  # every library has a class of its own for a damaged file
        raise ValueError(
            f"{path.name} of a finished run was expected, got a file that cannot be read as one "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no more is known'}).\n"
            f"  file: {path}\n  fix: run the recipe again, or take the file away: its section is then left out."
        ) from error


def _mapping_of_json(path: Path) -> dict[str, Any]:
    return _mapping(json.loads(path.read_text(encoding="utf-8")))


def _mapping_of_yaml(path: Path) -> dict[str, Any]:
    return _mapping(yaml.safe_load(path.read_text(encoding="utf-8")))


def _mapping(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise TypeError(f"keys and values were expected, got {type(content).__name__}")
    return content


def _tsv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=dict.fromkeys(ID_COLUMNS, str))


def _phenotype_file(path: Path) -> pd.DataFrame:
    """The ids alone of a file for PLINK 2 or REGENIE."""
    return pd.read_csv(path, sep=r"\s+", dtype=str, usecols=lambda name: name.lstrip("#").lower() in ID_COLUMNS)


def _image(path: Path) -> nib.spatialimages.SpatialImage:
    image = nib.load(path)
    if len(image.shape) != 3:
        raise TypeError(f"one value a voxel, three axes, were expected, got the shape {image.shape}")
    return image
