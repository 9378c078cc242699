"""Nearest people: query rows and candidate rows with their people flow in; the k best people of each query flow out."""

from typing import NamedTuple

import numpy as np

from brainmt_align.evaluation.ranks import BLOCK_NUMBERS, rounding

SEARCHES = ("exact", "flat", "ivf", "hnsw")
QUERY_NUMBERS = 8 * BLOCK_NUMBERS  # scores of one block of queries in memory at once: 256 MiB
CANDIDATE_NUMBERS = 4 * BLOCK_NUMBERS  # numbers of candidate rows in float64 at once: 128 MiB
HNSW_LINKS = 32


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


class FaissSearch:
    """Rows in a FAISS index by inner product, which proposes the rows that may be best.

    Args:
        kind: "flat", "ivf" or "hnsw".
        candidate_CE: (C, E) float32 unit rows. IVF splits them into about 4 √C cells that are trained on them.
        nprobe: IVF: cells looked at per query; None: a sixteenth of them. More is slower and misses less.

    Raises:
        ModuleNotFoundError: FAISS is not installed.
        ValueError: nprobe that is not at least 1.
    """

    def __init__(self, kind: str, candidate_CE: np.ndarray, nprobe: int | None = None) -> None:
        faiss = _import_faiss(kind)
        if nprobe is not None and nprobe < 1:
            raise ValueError(f"Index: expected nprobe of 1 or more, got {nprobe}.\n  fix: look into at least one cell.")
        rows, width = candidate_CE.shape
        self.kind = kind
        if kind == "flat":
            self.index = faiss.IndexFlatIP(width)
        elif kind == "ivf":
            cells = max(1, min(round(4 * rows**0.5), rows // 39))  # FAISS wants 39 rows or more to train a cell
            self.index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
            self.index.nprobe = min(nprobe or max(1, cells // 16), cells)
            self.index.train(candidate_CE)
        else:
            self.index = faiss.IndexHNSWFlat(width, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        self.index.add(candidate_CE)

    def propose(self, rows_RE: np.ndarray, count: int) -> np.ndarray:
        """(R, count) int64 candidate rows for each query row, -1 where fewer were found."""
        if self.kind == "hnsw":
            self.index.hnsw.efSearch = max(64, 2 * count)
        return self.index.search(np.ascontiguousarray(rows_RE, np.float32), min(count, self.index.ntotal))[1]


def _import_faiss(kind: str):
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'Index: search="{kind}" expects FAISS, which is not installed.\n'
            '  fix: pip install "brainmt-align[retrieval]" (or pip install faiss-cpu), or search="exact".'
        ) from error
    return faiss
