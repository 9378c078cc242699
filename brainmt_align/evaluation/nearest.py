"""Nearest people: query rows and candidate rows with their people flow in; the k best people of each query flow out, and how far
FAISS agrees with exact search."""

import warnings
from numbers import Real
from typing import NamedTuple

import numpy as np

from brainmt_align.evaluation.questions import require_whole
from brainmt_align.evaluation.ranks import BLOCK_NUMBERS, rounding

SEARCHES = ("exact", "flat", "ivf", "hnsw")
QUERY_NUMBERS = 8 * BLOCK_NUMBERS  # scores of one block of queries in memory at once: 256 MiB
CANDIDATE_NUMBERS = 4 * BLOCK_NUMBERS  # numbers of candidate rows in float64 at once: 128 MiB
HNSW_LINKS = 32
HNSW_BREADTH = 64  # efSearch to begin with
APPROXIMATE = ("ivf", "hnsw")
AGREEMENT_AT, AGREEMENT_QUERIES, TARGET_AGREEMENT = 10, 100, 0.95


class Nearest(NamedTuple):
    """The best people of one query, best first."""

    people: np.ndarray  # (k,) int
    ranks: np.ndarray  # (k,) float64 among all people searched, 1 is best; tied people share their average rank
    scores: np.ndarray  # (k,) float64 cosine


def search_exact(queries: list[np.ndarray], candidate_CE, person_C, k: int) -> list[Nearest]:
    """The k best people of every query by the largest dot product of any of its rows with any of theirs.

    Scores are computed in float64 and tie as in `rank_both_ways`. Memory beside the rows: at most 0.5 GiB.

    Args:
        queries: (rows, E) unit rows of each query, at least one.
        candidate_CE: (C, E) unit rows.
        person_C: (C,) int, whose row it is.
        k: fewer come back where there are fewer people.
    """
    person_C = np.asarray(person_C)
    by_person = np.argsort(person_C, kind="stable")
    people_P, starts_P = np.unique(person_C[by_person], return_index=True)
    block = max(1, QUERY_NUMBERS // len(person_C) // max(len(each) for each in queries))
    nearest = []
    for start in range(0, len(queries), block):
        some = queries[start : start + block]
        rows_RE = np.concatenate(some).astype(np.float64)
        scores_RC = _scores(rows_RE, candidate_CE)
        if len(people_P) < len(person_C) or (np.diff(person_C) < 0).any():
            scores_RC = np.maximum.reduceat(scores_RC[:, by_person], starts_P, axis=1)
        slack = rounding(rows_RE, rows_RE)[0].max()
        ends = np.cumsum([len(each) for each in some])
        for first, end in zip(ends - [len(each) for each in some], ends, strict=True):
            top = _top(scores_RC[first:end].max(axis=0), k, slack)
            nearest.append(top._replace(people=people_P[top.people]))
    return nearest


def _scores(rows_RE: np.ndarray, candidate_CE: np.ndarray) -> np.ndarray:
    """(R, C) float64 scores; candidates become float64 a block at a time."""
    scores_RC = np.empty((len(rows_RE), len(candidate_CE)))
    step = max(1, CANDIDATE_NUMBERS // candidate_CE.shape[1])
    for start in range(0, len(candidate_CE), step):
        some = candidate_CE[start : start + step].astype(np.float64)
        scores_RC[:, start : start + step] = rows_RE @ some.T
    return scores_RC


def _top(scores_P: np.ndarray, k: int, slack: float) -> Nearest:
    """The k largest with their average rank among all; neighbours closer than the slack are one tie group."""
    k = min(k, len(scores_P))
    best = np.argpartition(-scores_P, k - 1)[:k]
    best = best[np.lexsort((best, -scores_P[best]))]
    ordered = scores_P[best]
    opens = np.flatnonzero(np.append(True, ordered[:-1] - ordered[1:] > slack))
    # The last group may go on beyond the k.
    closes = np.append(opens[1:] - 1, np.count_nonzero(scores_P >= ordered[-1] - slack) - 1)
    group = np.searchsorted(opens, np.arange(k), side="right") - 1
    return Nearest(best, (opens + closes)[group] / 2 + 1, ordered)


class SearchAgreement(NamedTuple):
    """How far an approximate search proposes what exact search finds, and what that took."""

    recall: float  # 0 … 1, mean share of a query's `k` best rows that are proposed
    k: int
    queries: int  # rows of the other side that were asked with
    setting: int  # nprobe of "ivf", efSearch of "hnsw"
    share: float  # 0 … 1, setting over its most: cells of "ivf", rows of "hnsw"; at 1 it saves nothing over "flat"


class FaissSearch:
    """Rows in a FAISS index by inner product, which proposes the rows that may be best.

    Scans look for genomes with modest cosines, where proposals among a few cells or neighbours lose most true partners. So
    "ivf" and "hnsw" are asked at once with some rows of the other side, and nprobe or efSearch is doubled until their best rows
    are proposed, or everything is searched. At cosines of 0.25 in 512 numbers that makes both slower than "flat"; they pay where
    partners lie close.

    Attributes:
        agreement: `SearchAgreement` of the setting that was settled on; None of "flat", which misses nothing.

    Args:
        kind: "flat", "ivf" or "hnsw".
        candidate_CE: (C, E) float32 unit rows. IVF splits them into about 4 √C cells that are trained on them.
        asking_QE: (Q, E) float32 unit rows such as will ask: of the other side. At most 100 of them are drawn, always the same.
        nprobe: IVF: cells looked at per query, kept as given; None: from a sixteenth of them on, raised to the target.
        target: 0 … 1, least recall of the 10 best rows. It is measured on the rows drawn, to about 0.02, and for k far above 10
            it may be lower.
        side: name of the candidates, for messages.

    Raises:
        ModuleNotFoundError: FAISS is not installed.
        ValueError: nprobe that is not a whole number of at least 1, or a target beyond 0 … 1.

    Warns:
        UserWarning: the target is not reached.
    """

    def __init__(
        self,
        kind: str,
        candidate_CE: np.ndarray,
        asking_QE: np.ndarray,
        nprobe: int | None = None,
        target: float = TARGET_AGREEMENT,
        side: str = "dna",
    ) -> None:
        faiss = _import_faiss(kind)
        if nprobe is not None:
            require_whole("nprobe", nprobe)
        if not isinstance(target, Real) or not 0 <= target <= 1:
            raise ValueError(
                f"Index: expected a target agreement of 0 … 1, got {target!r}.\n  fix: leave it at {TARGET_AGREEMENT}."
            )
        rows, width = candidate_CE.shape
        self.kind, self.agreement = kind, None
        if kind == "flat":
            self.index = faiss.IndexFlatIP(width)
        elif kind == "ivf":
            cells = max(1, min(round(4 * rows**0.5), rows // 39))  # FAISS wants 39 rows or more to train a cell
            self.index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
            self.most, self.setting = cells, min(nprobe or max(1, cells // 16), cells)
            self.index.train(candidate_CE)
        else:
            self.index = faiss.IndexHNSWFlat(width, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            self.most, self.setting = rows, min(HNSW_BREADTH, rows)
        self.index.add(candidate_CE)
        if kind in APPROXIMATE:
            kept = kind == "ivf" and nprobe is not None
            self.agreement = self._settle(candidate_CE, _draw(asking_QE), 0 if kept else target)
            self._warn_below(target, side)

    def propose(self, rows_RE: np.ndarray, count: int) -> np.ndarray:
        """(R, count) int64 candidate rows for each query row, -1 where fewer were found."""
        if self.kind == "ivf":
            self.index.nprobe = self.setting
        elif self.kind == "hnsw":
            self.index.hnsw.efSearch = max(self.setting, 2 * count)
        return self.index.search(np.ascontiguousarray(rows_RE, np.float32), min(count, self.index.ntotal))[1]

    def _settle(self, candidate_CE: np.ndarray, asking_QE: np.ndarray, target: float) -> SearchAgreement:
        """Double the setting until the target or everything is reached; what was reached."""
        exact = search_exact(list(asking_QE[:, None]), candidate_CE, np.arange(len(candidate_CE)), AGREEMENT_AT)
        k = len(exact[0].scores)
        while True:
            recall = float(
                np.mean(
                    [
                        _recall(row_E, candidate_CE[rows[rows >= 0]], best.scores)
                        for row_E, rows, best in zip(asking_QE, self.propose(asking_QE, k), exact, strict=True)
                    ]
                )
            )
            if recall >= target or self.setting == self.most:
                return SearchAgreement(recall, k, len(asking_QE), self.setting, self.setting / self.most)
            self.setting = min(2 * self.setting, self.most)

    def _warn_below(self, target: float, side: str) -> None:
        recall, k, queries, setting, share = self.agreement
        if recall < target:
            name = "nprobe" if self.kind == "ivf" else "efSearch"
            warnings.warn(
                f'Index: expected search="{self.kind}" to propose {target:.2f} of the {k} best rows of {side}, got {recall:.2f} '
                f"for {queries} queries of the other side, with {name}={setting} of {self.most}: true partners are lost.\n"
                f'  fix: search="exact" or "flat", which miss nobody{", or leave nprobe out" if share < 1 else ""}.',
                UserWarning,
                stacklevel=4,
            )


def _draw(asking_QE: np.ndarray) -> np.ndarray:
    count = min(AGREEMENT_QUERIES, len(asking_QE))
    return asking_QE[np.sort(np.random.default_rng(0).choice(len(asking_QE), count, replace=False))]


def _recall(row_E: np.ndarray, proposed_CE: np.ndarray, best_k: np.ndarray) -> float:
    """Share of the k best scores that the proposals reach; of tied rows any will do."""
    scores_C = proposed_CE.astype(np.float64) @ row_E.astype(np.float64)
    return min(np.count_nonzero(scores_C >= best_k[-1] - 1e-9), len(best_k)) / len(best_k)


def _import_faiss(kind: str):
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'Index: search="{kind}" expects FAISS, which is not installed.\n'
            '  fix: pip install "brainmt-align[retrieval]" (or pip install faiss-cpu), or search="exact".'
        ) from error
    return faiss
