"""Splits: subject ids with their families and strata flow in; train, validation and test parts, frozen in a file, flow out."""

import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from brainmt_align.atomic import write_atomically
from brainmt_align.data.dealing import Label, blocks_of, check_people, content_hash, deal_blocks, round_sizes
from brainmt_align.data.phenotype_presets import require_columns
from brainmt_align.listing import some

FAMILIES = "family_id"  # the participants' column that tells relatives, by its usual name
PARTS = ("train", "validation", "test")
FORMAT = "brainmt-align split 1"


class Split(NamedTuple):
    """Subject ids of each part, sorted; no id is in two parts."""

    train: list[str]
    validation: list[str]
    test: list[str]
    seed: int


def make_split(
    subject_ids: Sequence[str],
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
) -> Split:
    """Deal people out to train, validation and test; the same people and seed give the same parts in whatever order they come.

    Groups are never divided; every part gets its share of large and small groups and of every stratum, and the sizes are exact
    unless groups forbid it: see `deal_blocks`.

    Args:
        subject_ids: one id a person.
        fractions: shares of train, validation and test that sum to 1, or three whole numbers of people that sum to all.
        seed: orders the people of one size and stratum.
        groups: label of each person's group (family); None makes everyone free.
        strata: label of each person's stratum.

    Raises:
        ValueError: repeated ids, shares that do not fit, labels that are missing or of another length, a group that fits nowhere,
            or a part that stays empty.
    """
    people = check_people(subject_ids, groups, strata)
    targets = _target_sizes(fractions, len(people))
    blocks = blocks_of(people, grouped=groups is not None)
    too_large = {str(group): len(block) for group, block in blocks.items() if len(block) > max(targets)}
    if too_large:
        listed = some([f"{group} ({size} people)" for group, size in sorted(too_large.items())])
        raise ValueError(
            f"Split: no part can hold a group of more than {max(targets)} people; got {listed}.\n"
            "  fix: give the largest part a larger share, or check the groups' labels."
        )
    parts = deal_blocks(list(blocks.values()), targets, seed)
    empty = [name for name, part in zip(PARTS, parts, strict=True) if not part]
    if empty:
        raise ValueError(
            f"Split: every part needs people; {' and '.join(empty)} got none of {len(people)} people in {len(blocks)} groups.\n"
            "  fix: give it a larger share, or bring more people."
        )
    return Split(*parts, seed)


class FrozenSplit(NamedTuple):
    """A split with what it was made with, as `save_split` wants it."""

    split: Split
    settings: dict[str, Any]


def choose_split(
    people: pd.DataFrame,
    parts: Sequence[float],
    seed: int,
    groups: str | None = None,
    strata: Sequence[str] = (),
    path: str | Path | None = None,
) -> FrozenSplit:
    """The split in a file, refused when it no longer fits, or a new one where no file is named; nothing is written.

    A file is held against today's people and groups; how it was dealt (parts, seed, strata) is its own affair and stays with it.

    Args:
        people: one row a person, with subject_id.
        parts: train : validation : test, in any unit.
        seed: of the dealing; a file has its own.
        groups: column of `people` whose members stay together.
        strata: columns of `people` that every part gets its share of.
        path: a file of `save_split`; None: a new split.

    Raises:
        ValueError: columns that `people` lacks, fewer than two people to choose or to score among, and what `make_split` and
            `load_split` complain of.
    """
    subjects = people["subject_id"].tolist()
    settings = {"parts": list(parts), "seed": seed, "groups": groups, "strata": list(strata)}
    grouping = [] if groups is None else [groups]
    _check_columns(people, [*grouping, *strata])
    group_labels, stratum_labels = labels_of(people, grouping), labels_of(people, strata)
    if path is not None:
        split, settings = load_split(path, subjects, {}, group_labels)  # how it was dealt is its own affair; torn groups are not
    else:
        split = make_split(subjects, [part / sum(parts) for part in parts], seed, group_labels, stratum_labels)
    small = [f"{name} {len(getattr(split, name))}" for name in PARTS[1:] if len(getattr(split, name)) < 2]
    if small:
        raise ValueError(
            f"Split: at least 2 people to validate and 2 to test are needed to rank anybody, got {', '.join(small)}.\n"
            f"  fix: set split.parts so that {len(subjects)} people leave more for them."
        )
    return FrozenSplit(split, settings)


def labels_of(people: pd.DataFrame, columns: Sequence[str], complete: bool = False) -> list[Hashable] | None:
    """One label a person from one column, or from several joined; None without columns.

    Args:
        people: one row a person, with subject_id.
        columns: whose values are the labels.
        complete: whether everyone must have a value.

    Raises:
        ValueError: columns that `people` lacks, or people without a value where `complete`.
    """
    _check_columns(people, columns)
    blank = people.loc[people[list(columns)].isna().any(axis=1), "subject_id"].tolist() if complete and columns else []
    if blank:
        raise ValueError(
            f"Split: a value of {', '.join(columns)} was expected for everyone, got none for {len(blank)}: {some(blank)}.\n"
            "  fix: fill the column in the participants table, or leave it out of evaluation.strata."
        )
    if len(columns) == 1:
        return people[columns[0]].tolist()
    return list(people[list(columns)].itertuples(index=False, name=None)) if columns else None


def describe_families(people: pd.DataFrame, groups: str | None) -> str | None:
    """A note where the people have families but are dealt out one by one."""
    if groups is not None or FAMILIES not in people:
        return None
    shared = people[FAMILIES].dropna().duplicated(keep=False).sum()
    if not shared:
        return None
    return (
        f"{shared} of {len(people)} people share a {FAMILIES} with another, and split.groups=null lets relatives fall into "
        f"different parts; split.groups={FAMILIES} keeps families together."
    )


def fingerprint(split: Split) -> str:
    """SHA-256 of who is in which part."""
    return content_hash(split._asdict())


def restrict_split(path: str | Path, subject_ids: Sequence[str], groups: Sequence[Hashable] | None = None) -> FrozenSplit:
    """A frozen split of some of its people: of those who have a value of a phenotype, say.

    Args:
        path: a file of `save_split`.
        subject_ids: the people of today, all of them in the file.
        groups: today's label of each person's group.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no split, lacks people of today, or tears a group: all reasons listed.
    """
    earlier, settings = read_split(Path(path))
    wanted = set(subject_ids)
    kept = earlier._replace(**{part: [person for person in getattr(earlier, part) if person in wanted] for part in PARTS})
    faults = _compare_people(kept, check_people(subject_ids, groups, None), grouped=groups is not None)
    if faults:
        raise ValueError(
            "Split: the frozen split no longer fits:\n  - " + "\n  - ".join(faults) + f"\n  file: {path}\n"
            "  fix: bring back the people it was made with, or have the split made again (results then no longer compare)."
        )
    gone = sum(len(getattr(earlier, part)) for part in PARTS) - len(wanted)
    return FrozenSplit(kept, {**settings, "left_out": gone})


def save_split(path: str | Path, split: Split, settings: Mapping[str, Any]) -> Path:
    """Freeze a split in a JSON file, with hashes over its people and over all that it holds; the file is replaced at once.

    Args:
        path: the file; its folder is made.
        split: what `make_split` gave.
        settings: what the split was made with, as JSON can hold it; `load_split` compares it.
    """
    path = Path(path)
    everyone = content_hash(sorted([*split.train, *split.validation, *split.test]))
    content = {"format": FORMAT, "settings": _as_json(settings), **split._asdict(), "people_sha256": everyone}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content | {"sha256": content_hash(content)}, indent=1) + "\n"
    return write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def load_split(
    path: str | Path,
    subject_ids: Sequence[str],
    settings: Mapping[str, Any],
    groups: Sequence[Hashable] | None = None,
) -> FrozenSplit:
    """Read a frozen split, and refuse it when it is no longer the split of these people and settings.

    Args:
        path: a file of `save_split`.
        subject_ids: the people of today.
        settings: those that must be as they were; others of the file are not compared.
        groups: today's label of each person's group; a group that lies in two parts is a fault.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no split, was edited by hand, or does not fit: all reasons listed.
    """
    path = Path(path)
    split, saved_settings = read_split(path)
    faults = _compare_people(split, check_people(subject_ids, groups, None), grouped=groups is not None)
    faults += _compare_settings(saved_settings, _as_json(settings))
    if faults:
        raise ValueError(
            "Split: the frozen split no longer fits:\n  - " + "\n  - ".join(faults) + f"\n  file: {path}\n"
            "  fix: bring back the people and settings it was made with, or delete it to have the split made again "
            "(results then no longer compare)."
        )
    return FrozenSplit(split, saved_settings)


def read_split(path: Path) -> FrozenSplit:
    """A split and what it was made with, from a file that is whole; whom it is of is not looked at.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no split, or was edited by hand.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Split: expected a file, got none.\n  file: {path}\n  fix: correct the path, or make it again.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        saved_hash = content.pop("sha256")
        split = Split(**{name: content[name] for name in Split._fields})
        saved_settings = content["settings"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Split: expected a file of format {FORMAT!r}, got something else ({error!r}).\n  file: {path}\n"
            "  fix: delete it to have the split made again."
        ) from error
    if (found := content_hash(content)) != saved_hash:
        raise ValueError(
            f"Split: its content should hash to {saved_hash[:12]}…, got {found[:12]}…: it was edited or damaged.\n"
            f"  file: {path}\n  fix: restore it from a backup, or delete it to have the split made again "
            "(results then no longer compare)."
        )
    return FrozenSplit(split, saved_settings)


def _check_columns(people: pd.DataFrame, columns: Sequence[str]) -> None:
    try:
        require_columns(people, columns)
    except ValueError as error:
        raise ValueError(f"{error}\n  key: split.groups, split.strata, split.sites or evaluation.strata") from error


def _target_sizes(fractions: Sequence[float], num_people: int) -> list[int]:
    """People of each part: counts as they are, fractions rounded by the largest remainder."""
    counts = all(float(each).is_integer() for each in fractions) and sum(fractions) > 1
    total = num_people if counts else 1
    if len(fractions) != 3 or not all(each >= 0 for each in fractions) or abs(sum(fractions) - total) > 1e-6:
        raise ValueError(
            f"Split: expected shares of train, validation and test that sum to 1, or counts that sum to {num_people}; got "
            f"{', '.join(f'{each:g}' for each in fractions)} (sum {sum(fractions):g}).\n  fix: correct the three numbers."
        )
    exact = [float(each) * (1 if counts else num_people) for each in fractions]
    sizes = round_sizes(exact, num_people)
    empty = [name for name, size in zip(PARTS, sizes, strict=True) if size == 0]
    if empty:
        raise ValueError(
            f"Split: every part needs people; a share of {', '.join(f'{each:g}' for each in fractions)} of {num_people} people "
            f"leaves {' and '.join(empty)} without any.\n  fix: give it a larger share, or bring more people."
        )
    return sizes


def _compare_people(split: Split, people: Mapping[str, Label], grouped: bool) -> list[str]:
    part_of = {person: name for name in PARTS for person in getattr(split, name)}
    new, gone = sorted(people.keys() - part_of.keys()), sorted(part_of.keys() - people.keys())
    faults = [f"people that it does not have: {some(new)}"] if new else []
    faults += [f"people that are no longer there: {some(gone)}"] if gone else []
    if grouped:
        parts_of_group = defaultdict(set)
        for person in people.keys() & part_of.keys():
            parts_of_group[people[person].group].add(part_of[person])
        torn = sorted(str(group) for group, parts in parts_of_group.items() if len(parts) > 1)
        faults += [f"groups that lie in two parts: {some(torn)}"] if torn else []
    return faults


def _compare_settings(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = [key for key in now if key not in saved or saved[key] != now[key]]
    return [f"{key}: made with {saved.get(key, 'nothing')!r}, now {now[key]!r}" for key in keys]


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(settings)))
