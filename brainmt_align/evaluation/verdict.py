"""Verdict: tests of an alignment and its leads over rivals flow in; what its retrieval rests on, in words, flows out."""

from collections.abc import Mapping, Sequence
from typing import Any

from brainmt_align.data.kinship import IDENTICAL, SHARED_BY_RELATIVES

ALPHA = 0.05
NO_SPREAD = 1e-9  # nats, of a null whose re-pairings are all alike: identical twins have one genome
LARGER_PART = 0.5  # of the effect that random strata of the same sizes would leave
COVARIATES_ONLY = "covariates only"  # name of the rival that the verdict heeds
FAMILIES = "family resemblance"
SHARED_BY_TWINS = 2 * IDENTICAL  # least share of the genome; genotyping error lets identical twins differ a little
SURE_SDS = 2 * 1.645  # an effect of so many SDs of the null has p of 0.05 or less in 95 % of cohorts


def give_verdict(
    tests: Mapping[str, Mapping[str, Any]],
    strata: Sequence[str],
    rivals: Mapping[str, Any] | None = None,
    matched: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Say in words what the retrieval rests on; nothing counts as surviving that was not tested.

    Args:
        tests: "overall", "within strata", "within <column>", "within families" → p_value, min_p_value and, within strata, share
            (see `within_strata.surviving_share`), within families expected_nats and null_sd: the effect that is expected where
            relatives share nothing that matters, and the SD of chance; and shared, what members of a family have in common of
            what makes a pair, 0 to 1 (None or absent: no kinship is known, they are taken for siblings). Tests that were not made
            are absent. exact and permutations say whether all re-pairings were listed (taken for granted where exact is absent),
            or how many were drawn.
        strata: columns of the strata; none means that nobody asked.
        rivals: name → direction → {"lead": {"mean_log_rank": [value, low, high]}}.
        matched: direction → figures on pools matched by covariates: chance_mrr and intervals of mrr; and "rivals", as above, on
            the same pools.

    Returns:
        {"kind": one of nothing, not examined, survives, partly explained, explained; "explained_by": columns, or family
        resemblance, or covariates; "words": one line}
    """
    overall = tests["overall"]
    if not _testable(overall):
        return _verdict("not examined", [], f"retrieval cannot be tested{_least(overall)}")
    if not _significant(overall):
        return _verdict("nothing", [], "not above chance")
    kind, explained_by, words = _of_strata(tests, strata, rivals or {}, matched)
    families = tests.get("within families")
    if families is None:
        return _verdict(kind, explained_by, words)
    if _shared(families) >= SHARED_BY_TWINS:
        return _verdict(kind, explained_by, f"{words}; within families it cannot be tested: all relatives are identical twins")
    if not _testable(families):
        return _verdict(kind, explained_by, f"{words}; within families it cannot be tested{_least(families)}")
    if families.get("null_sd") is not None and families["null_sd"] <= NO_SPREAD:
        return _verdict(kind, explained_by, f"{words}; within families it cannot be tested: relatives cannot be told apart")
    if _significant(families):
        return _verdict(kind, explained_by, f"{words}; above chance within families")
    if kind == "explained":  # relatives share what the columns tell, so that this names no further cause
        return _verdict(kind, explained_by, f"{words}; not above chance within families either")
    words = words.replace(": survives", "")
    guessed = ", relatives taken for siblings as no kinship is known" if families.get("shared") is None else ""
    if not _could_tell(families, tests.get("within strata")):
        words = f"{words}; not above chance within families{guessed}, where so small an effect may be missed"
        words = f"{words}: {FAMILIES} is not ruled out"
        return _verdict("partly explained", [*explained_by, FAMILIES], words)
    return _verdict(
        "explained",
        [*explained_by, FAMILIES],
        f"{words}, and not above chance within families{guessed}: explained by {FAMILIES}",
    )


def _of_strata(tests, strata: Sequence[str], rivals, matched) -> tuple[str, list[str], str]:
    """kind, what explains it, words; of an alignment that is above chance overall."""
    misses = [f"no sure lead over {COVARIATES_ONLY}"] if COVARIATES_ONLY in rivals and not _leads(rivals[COVARIATES_ONLY]) else []
    if matched is not None and not _gains(matched):
        misses.append("no sure gain on matched pools")
    elif matched is not None and COVARIATES_ONLY in matched.get("rivals", {}) and not _leads(matched["rivals"][COVARIATES_ONLY]):
        misses.append(f"no sure lead over {COVARIATES_ONLY} on matched pools")
    behind = "".join(f", {miss}" for miss in misses)
    if not strata:
        needed = "name columns such as ancestry, sex, age, site and motion as strata"
        return "not examined", [], f"above chance overall{behind}, not examined within strata: {needed}"
    within = tests["within strata"]
    named = _listed(strata)
    if not _testable(within):
        return "not examined", [], f"above chance overall{behind}; cannot be tested within strata of {named}{_least(within)}"
    share = within.get("share")
    left = "" if share is None else f", where {max(0.0, min(share, 1.0)):.0%} of the effect is left"
    alone = [name for name in strata if _explains_alone(tests.get(f"within {name}"))]
    if not _significant(within):
        return _not_within(strata, alone, share, left)
    if alone:  # small strata were merged over these columns, so that strata of all columns do not hold them
        words = f"above chance overall and within merged strata, not above chance within {_listed(alone)} alone"
        return "explained", alone, f"{words}: explained by {_listed(alone)}"
    weak = [name for name in strata if not _keeps(tests.get(f"within {name}"))]
    if share is None or share < LARGER_PART or weak:
        weak = weak or list(strata)
        words = f"above chance overall and within strata{left}{behind}"
        return "partly explained", weak, f"{words}: partly explained by {_listed(weak)}"
    if misses:
        words = f"above chance overall and within strata{left}{behind}"
        return "partly explained", ["covariates"], f"{words}: partly explained by covariates"
    return "survives", [], f"above chance overall and within strata of {named}{left}: survives"


def _not_within(strata: Sequence[str], alone: list[str], share: float | None, left: str) -> tuple[str, list[str], str]:
    """kind, what explains it, words; of an alignment that is above chance overall, and not within strata."""
    words = "above chance overall, not above chance within strata"
    if not alone and share is not None and share >= LARGER_PART:
        return (
            "partly explained",
            list(strata),
            f"{words}{left}: too few people to tell, {_listed(strata)} not ruled out",
        )
    explained_by = alone or list(strata)
    together = "" if alone or len(strata) == 1 else " together"
    return "explained", explained_by, f"{words}: explained by {_listed(explained_by)}{together}"


def _testable(test: Mapping[str, Any]) -> bool:
    return test["p_value"] is not None and test["min_p_value"] <= ALPHA


def _significant(test: Mapping[str, Any]) -> bool:
    return test["p_value"] <= ALPHA


def _could_tell(families: Mapping[str, Any], within: Mapping[str, Any] | None) -> bool:
    """Would what the strata leave have shown within families, seeing how much relatives share of it?"""
    share = within.get("share") if within is not None else None
    left = 1.0 if share is None else max(0.0, min(share, 1.0))
    return (1 - _shared(families)) * families["expected_nats"] * left >= SURE_SDS * families["null_sd"]


def _shared(families: Mapping[str, Any]) -> float:
    share = families.get("shared")
    return SHARED_BY_RELATIVES if share is None else share


def _explains_alone(test: Mapping[str, Any] | None) -> bool:
    return test is not None and _testable(test) and not _significant(test)


def _keeps(test: Mapping[str, Any] | None) -> bool:
    return test is None or (test.get("share") is not None and test["share"] >= LARGER_PART)


def _leads(rival: Mapping[str, Any]) -> bool:
    return all(rival[direction]["lead"]["mean_log_rank"][1] > 0 for direction in ("fmri_to_dna", "dna_to_fmri"))


def _gains(matched: Mapping[str, Any]) -> bool:
    figures = [matched[direction] for direction in ("fmri_to_dna", "dna_to_fmri")]
    return all(each["intervals"]["mrr"][0] > each["chance_mrr"] for each in figures)


def _least(test: Mapping[str, Any]) -> str:
    """The least p there can be, and why: of all re-pairings, or of as many as were drawn."""
    least = f"least p {test['min_p_value']:.2g}"
    if test.get("exact", True):
        return f": too few re-pairings are admissible ({least})"
    return f" by {test['permutations']} re-pairings drawn ({least}): raise evaluation.permutations"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _verdict(kind: str, explained_by: Sequence[str], words: str) -> dict[str, Any]:
    return {"kind": kind, "explained_by": list(explained_by), "words": words}
