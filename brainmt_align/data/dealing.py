"""Dealing: people with their groups and strata flow in; parts of given sizes that no group is torn by flow out."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from brainmt_align.data.tables import is_blank
from brainmt_align.listing import some


class Label(NamedTuple):
    """What a person is dealt out by; None and one stratum for all where there are no labels."""

    group: Hashable
    stratum: str


Block = list[tuple[str, str]]  # id and stratum of people who stay together


def check_people(
    subject_ids: Sequence[str], groups: Sequence[Hashable] | None, strata: Sequence[Hashable] | None
) -> dict[str, Label]:
    """Group and stratum of each person.

    Raises:
        ValueError: repeated ids or none, labels of another length, or people without a label.
    """
    subject_ids = list(subject_ids)
    repeated = [person for person, count in Counter(subject_ids).items() if count > 1]
    if repeated or not subject_ids:
        raise ValueError(
            f"Split: expected one id a person, got {len(subject_ids)} ids; repeated: {some(repeated) or 'none'}.\n"
            "  fix: pass the subject_id column of the cohort's people."
        )
    labels = {}
    for name, values in (("groups", groups), ("strata", strata)):
        labels[name] = [None] * len(subject_ids) if values is None else list(values)
        if len(labels[name]) != len(subject_ids):
            raise ValueError(
                f"Split: expected one label of {name} for each of {len(subject_ids)} people, got {len(labels[name])}.\n"
                f"  fix: take {name} from the same table as the ids."
            )
        checked = name == "groups" and values is not None  # a missing stratum is a stratum of its own
        blank = [who for who, label in zip(subject_ids, labels[name], strict=True) if checked and is_blank(label)]
        if blank:
            raise ValueError(
                f"Split: expected a label of {name} for everyone, got none for {some(blank)}.\n"
                "  fix: fill the column; people without relatives get a group of their own."
            )
    return {who: Label(group, str(stratum)) for who, group, stratum in zip(subject_ids, *labels.values(), strict=True)}


def blocks_of(people: Mapping[str, Label], grouped: bool) -> dict[Hashable, Block]:
    """People who stay together, by their group, or everyone by themselves; whatever order they come in."""
    blocks = defaultdict(list)
    for person in sorted(people):
        blocks[people[person].group if grouped else person].append((person, people[person].stratum))
    return dict(blocks)


def round_sizes(exact: Sequence[float], total: int) -> list[int]:
    """Whole sizes that sum to `total`, rounded by the largest remainder, the first part first where remainders are equal."""
    sizes = [int(each + 1e-9) for each in exact]
    for part in sorted(range(len(sizes)), key=lambda part: sizes[part] - exact[part])[: total - sum(sizes)]:
        sizes[part] += 1
    return sizes


def deal_blocks(blocks: Sequence[Block], targets: Sequence[int], seed: int | Sequence[int]) -> list[list[str]]:
    """Deal blocks out to as many parts as there are targets.

    The largest blocks come first, within a size they are ordered by their make-up of strata, and each goes to the part that is
    the furthest behind its share (Sainte-Laguë). So every part gets its share of large and small blocks and of every stratum,
    and the sizes are exact unless the blocks forbid it.

    Args:
        blocks: in any order.
        targets: people of each part, at least 1.
        seed: orders the blocks of one size and make-up.

    Reference:
        Sainte-Laguë 1910, the divisor method with the quotients (seats + 1/2) / share.
    """
    parts: list[list[str]] = [[] for _ in targets]
    for block in sorted(blocks, key=lambda block: _dealing_order(block, seed)):
        parts[_most_behind([len(part) for part in parts], targets, len(block))].extend(person for person, _ in block)
    return [sorted(part) for part in parts]


def content_hash(content: Any) -> str:
    """SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _dealing_order(block: Block, seed: int | Sequence[int]) -> tuple:
    """Largest first, then by the strata of the members, then as the seed shuffles; a hash, so no library's generator matters."""
    make_up = sorted(stratum for _, stratum in block)
    return (-len(block), content_hash([seed, make_up]), content_hash([seed, [person for person, _ in block]]))


def _most_behind(sizes: Sequence[int], targets: Sequence[int], more: int) -> int:
    """The part that `more` people go to: the one furthest behind its share among those with room, else the least overfilled."""
    room = [part for part in range(len(sizes)) if sizes[part] + more <= targets[part]]
    if room:
        return min(room, key=lambda part: (sizes[part] + more / 2) / targets[part])
    return min(range(len(sizes)), key=lambda part: (sizes[part] + more) / targets[part])
