"""Folds: subject ids with their families and strata flow in; K splits in which everyone is tested once flow out."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from brainmt_align.data.dealing import Block, blocks_of, check_people, deal_blocks, round_sizes
from brainmt_align.data.splits import PARTS, FrozenSplit, Split, choose_split, labels_of, restrict_split
from brainmt_align.listing import some


def make_folds(
    subject_ids: Sequence[str],
    folds: int,
    seed: int,
    groups: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
    validation: float = 0.15,
) -> list[Split]:
    """Deal people out to K folds; the same people and seed give the same folds in whatever order they come.

    Each person is in the test part of one fold. The others of a fold are dealt out to train and validation anew, so that each
    fold validates on other people. Groups are never divided; every part gets its share of large and small groups and of every
    stratum, see `deal_blocks`. A group that is larger than a fold makes a larger fold: leaving out a site at a time is K folds
    of K sites.

    Args:
        subject_ids: one id a person.
        folds: K, at least 2 and at most the number of groups.
        seed: orders the people of one size and stratum; several seeds give several repetitions of the cross-validation.
        groups: label of each person's group (family); None makes everyone free.
        strata: label of each person's stratum.
        validation: share of a fold's people outside its test part, above 0 and below 1.

    Returns:
        K splits, each of all people.

    Raises:
        ValueError: repeated ids, labels that are missing or of another length, numbers out of range, fewer groups than folds, or
            a fold whose train or validation part stays empty.
    """
    people = check_people(subject_ids, groups, strata)
    blocks = blocks_of(people, grouped=groups is not None)
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= len(blocks):
        raise ValueError(
            f"Folds: expected a whole number of folds between 2 and {len(blocks)}, the groups that are not to be divided; got "
            f"{folds!r} folds of {len(people)} people.\n  fix: set another number of folds, or check the groups' labels."
        )
    if not 0 < validation < 1:
        raise ValueError(
            f"Folds: the share of validation among a fold's other people must be above 0 and below 1, got {validation!r}.\n"
            "  fix: set it to 0.15."
        )
    tests = deal_blocks(list(blocks.values()), round_sizes([len(people) / folds] * folds, len(people)), seed)
    fold_of = {person: fold for fold, test in enumerate(tests) for person in test}
    return [
        Split(
            *_deal_rest([block for block in blocks.values() if fold_of[block[0][0]] != fold], fold, seed, validation), test, seed
        )
        for fold, test in enumerate(tests)
    ]


def choose_folds(
    people: pd.DataFrame,
    folds: int | None,
    parts: Sequence[float],
    seed: int,
    groups: str | None = None,
    strata: Sequence[str] = (),
    path: str | Path | None = None,
) -> list[FrozenSplit]:
    """K folds, checked for leakage, or without K the one split that `choose_split` gives; nothing is written.

    Args:
        people: one row a person, with subject_id.
        folds: K; None: one split.
        parts: train : validation : test in any unit; of K folds, train : validation of those whom a fold does not test.
        seed: of the dealing.
        groups: column of `people` whose members stay together.
        strata: columns of `people` that every part gets its share of.
        path: a file of one split to keep to, of these people and maybe others; not with K folds.

    Raises:
        ValueError: what `choose_split`, `restrict_split`, `make_folds` and `check_folds` complain of.
    """
    if path is not None:
        return [restrict_split(path, people["subject_id"].tolist(), labels_of(people, [] if groups is None else [groups]))]
    if folds is None:
        frozen = choose_split(people, parts, seed, groups, strata)
        check_folds([frozen.split], None if groups is None else dict(zip(people["subject_id"], people[groups], strict=True)))
        return [frozen]
    labels = labels_of(people, [] if groups is None else [groups])
    share = parts[1] / (parts[0] + parts[1])
    splits = make_folds(people["subject_id"].tolist(), folds, seed, labels, labels_of(people, strata), share)
    check_folds(splits, None if labels is None else dict(zip(people["subject_id"], labels, strict=True)))
    settings = {"folds": folds, "parts": list(parts[:2]), "seed": seed, "groups": groups, "strata": list(strata)}
    return [FrozenSplit(split, {**settings, "fold": number}) for number, split in enumerate(splits)]


def check_folds(folds: Sequence[Split], groups: Mapping[str, Hashable] | None = None) -> None:
    """Refuse folds that leak: people or groups that are trained on and tested in the same fold, people tested twice.

    Args:
        folds: splits of one seed.
        groups: label of each person's group; None: everyone is a group of their own.

    Raises:
        ValueError: a person or a group in two parts of one fold, a person tested in two folds, or people without a label; all
            listed.
    """
    faults, tested_in = [], defaultdict(list)
    for number, fold in enumerate(folds):
        parts_of = {"people": defaultdict(set), "groups": defaultdict(set)}
        for part in PARTS:
            for person in getattr(fold, part):
                parts_of["people"][person].add(part)
                if groups is not None and person in groups:
                    parts_of["groups"][groups[person]].add(part)
        for what, found in parts_of.items():
            torn = [f"{each} ({', '.join(sorted(parts, key=PARTS.index))})" for each, parts in found.items() if len(parts) > 1]
            faults += [f"fold {number}: {what} in two parts: {some(sorted(torn))}"] if torn else []
        unknown = [] if groups is None else sorted(parts_of["people"].keys() - groups.keys())
        faults += [f"fold {number}: people without a group: {some(unknown)}"] if unknown else []
        for person in sorted(set(fold.test)):
            tested_in[person].append(str(number))
    twice = [f"{person} (folds {', '.join(several)})" for person, several in sorted(tested_in.items()) if len(several) > 1]
    faults += [f"people tested twice: {some(twice)}"] if twice else []
    if faults:
        raise ValueError(
            "Folds: nobody may be tested by what was fitted on them or their relatives; faults found: "
            f"{len(faults)}\n  - " + "\n  - ".join(faults) + "\n  fix: keep relatives together with "
            "split.groups=family_id or data.kinship=FILE; split.torn_families=true lets them fall into different parts."
        )


def _deal_rest(rest: list[Block], fold: int, seed: int, validation: float) -> list[list[str]]:
    """Train and validation parts of one fold from the blocks that are not tested in it."""
    count = sum(map(len, rest))
    targets = round_sizes([(1 - validation) * count, validation * count], count)
    parts = deal_blocks(rest, targets, [seed, fold]) if all(targets) else []
    sizes = [len(part) for part in parts] or targets
    empty = [name for name, size in zip(PARTS[:2], sizes, strict=True) if size == 0]
    if empty:
        raise ValueError(
            f"Folds: every part needs people; of the {count} people in {len(rest)} groups that fold {fold} does not test, a "
            f"share of {validation:g} for validation leaves {' and '.join(empty)} without any.\n"
            "  fix: set another share of validation or another number of folds, or check the groups' labels."
        )
    return parts
