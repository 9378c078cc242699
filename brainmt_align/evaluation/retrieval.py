"""Retrieval: embedded people flow in; who finds whom, as tables and as figures, both ways, flows out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainmt_align.evaluation.embedding_files import (
    SIDES,
    Embeddings,
    check_embeddings,
    join_people,
    read_embeddings,
    write_embeddings,
)
from brainmt_align.evaluation.metrics import expected_precision
from brainmt_align.evaluation.nearest import APPROXIMATE, SEARCHES, TARGET_AGREEMENT, FaissSearch, Nearest, search_exact
from brainmt_align.evaluation.people_filter import select_people
from brainmt_align.evaluation.questions import list_ids, require_whole, unit_vectors
from brainmt_align.evaluation.ranks import BLOCK_NUMBERS, rank_both_ways
from brainmt_align.evaluation.window_ranks import WindowRanks, rank_windows, window_metrics
from brainmt_align.listing import some, some_with_nearest

__all__ = ["DIRECTIONS", "EmbeddingIndex", "open_index", "rank_both_ways"]

DIRECTIONS = {"fmri_to_dna": ("fmri", "dna"), "dna_to_fmri": ("dna", "fmri")}
RESULT_COLUMNS = ("query", "rank", "rank_among_proposed", "score", "is_own")
LEAST_BLOCK = 256  # queries that the figures score at once: fewer, and reading the candidates costs more than their products
MOST_NUMBERS = 24 * BLOCK_NUMBERS  # and with these 0.8 GiB of scores so many are too many


class EmbeddingIndex:
    """People's scans and genomes in the shared space, ready to be queried.

    A person with several rows on a side, windows of a scan say, scores by the best of them.

    Attributes:
        fmri: (M_f, E) float32 unit rows.
        dna: (M_d, E) float32 unit rows.
        people: one row a person, subject_id first.
        fmri_person: (M_f,) int64 row of `people` that each row belongs to.
        dna_person: (M_d,) int64.
        model: fingerprint of the model that made the rows, or None.
        search: "exact", or FAISS's "flat", "ivf" or "hnsw".
        nprobe, target_agreement: see `FaissSearch`.
        search_agreement: of "ivf" and "hnsw", side searched → `SearchAgreement` with exact search; empty for the others.

    Args:
        fmri: (M_f, E) unit rows, array or tensor on a CPU.
        dna: (M_d, E) unit rows.
        people: a column subject_id and any others to filter by and to show.
        fmri_person: (M_f,) int row of `people`; by default row i is person i.
        dna_person: (M_d,) int.
        model: fingerprint of the model that made the rows.
        search: "exact" compares with everybody. The others let FAISS propose rows, for millions of people, and then rank what
            it proposed exactly; "flat" misses nobody, "ivf" and "hnsw" may, see search_agreement.
        nprobe: cells that "ivf" looks into; by default as many as the target asks for.
        target_agreement: 0 … 1, share of the 10 best rows that "ivf" and "hnsw" are to propose, see `FaissSearch`.
        source: file or place of the embeddings, for messages.

    Raises:
        ModuleNotFoundError: FAISS is asked for and not installed.
        ValueError: an unknown search, or embeddings that cannot be served; see `check_embeddings`.

    Warns:
        UserWarning: people that share a vector bit for bit, with their number; an approximate search that misses its target.
    """

    def __init__(
        self,
        fmri,
        dna,
        people: pd.DataFrame,
        *,
        fmri_person=None,
        dna_person=None,
        model: str | None = None,
        search: str = "exact",
        nprobe: int | None = None,
        target_agreement: float = TARGET_AGREEMENT,
        source: str = "embeddings in memory",
    ) -> None:
        if search not in SEARCHES:
            raise ValueError(f'Index: expected search {", ".join(SEARCHES)}, got "{search}".\n  fix: leave it at "exact".')
        embeddings = check_embeddings(Embeddings(fmri, dna, people, fmri_person, dna_person, model), source)
        self.fmri, self.dna, self.people, self.fmri_person, self.dna_person, self.model = self._embeddings = embeddings
        self.search, self.nprobe, self.target_agreement = search, nprobe, target_agreement
        self._faiss = {}
        if search != "exact":
            for asking, side in DIRECTIONS.values():
                rows = self._side(side)[0], self._side(asking)[0]
                self._faiss[side] = FaissSearch(search, *rows, nprobe, target_agreement, side)
        self.search_agreement = {side: each.agreement for side, each in self._faiss.items() if each.agreement}

    def __len__(self) -> int:
        return len(self.people)

    def __repr__(self) -> str:
        rows = f"{len(self.fmri)} × {self.fmri.shape[1]} of scans, {len(self.dna)} × {self.dna.shape[1]} of genomes"
        return f"EmbeddingIndex({len(self)} people, {rows}, search={self.search!r}, model={self.model!r})"

    def save(self, folder: str | Path, name: str = "embeddings") -> Path:
        """Write NAME.safetensors and NAME.parquet, each in one step, for `open_index`.

        Returns:
            The safetensors file.
        """
        return write_embeddings(self._embeddings, folder, name)

    def query_people(
        self, subject_ids: str | Sequence[str], direction: str = "fmri_to_dna", k: int = 10, where: dict | None = None
    ) -> pd.DataFrame:
        """Which genomes fit these people's scans, or the reverse.

        Args:
            subject_ids: one id or several; a person with several rows asks with all of them, and the best pair of rows counts.
            direction: "fmri_to_dna" asks with scans for genomes, "dna_to_fmri" with genomes for scans.
            k: people to return for each query.
            where: see `select_people`.

        Returns:
            One line a query and candidate, best first: query, rank (1 is best, among all people searched; tied people share
            their average rank), subject_id, score (cosine, -1 … 1), is_own, then the people's columns; a column named like one
            of these is called people.<name>. Of "ivf" and "hnsw" without a filter the ranks are among the people that FAISS
            proposed, and the column is called rank_among_proposed.

        Raises:
            ValueError: unknown subjects or direction, subjects without a row to ask with, k below 1, filters that `select_people`
                refuses.
        """
        if direction not in DIRECTIONS:
            raise ValueError(
                f'Index: expected a direction {" or ".join(DIRECTIONS)}, got "{direction}".\n  fix: fmri_to_dna asks with scans.'
            )
        ids = list_ids(subject_ids)
        person_Q = pd.Index(self.people["subject_id"]).get_indexer(ids)
        known = list(self.people["subject_id"])
        unknown = [each for each, person in zip(ids, person_Q, strict=True) if person < 0]
        if unknown or not ids:
            raise ValueError(
                f"Index: expected subjects among the {len(self)} embedded, got {len(unknown)} of {len(ids)} that are not: "
                f"{some_with_nearest(unknown, known)}.\n  fix: ask for ids in index.people."
            )
        asking, side = DIRECTIONS[direction]
        rows_ME, owner_M = self._side(asking)
        queries = [rows_ME[np.flatnonzero(owner_M == person)] for person in person_Q]
        if silent := [each for each, rows in zip(ids, queries, strict=True) if not len(rows)]:
            raise ValueError(
                f"Index: expected subjects with a row of {asking}, got {len(silent)} without: {some(silent, 10)}.\n"
                "  fix: ask in the other direction, or embed them."
            )
        found = self._nearest(queries, side, k, where)
        table = self._table(ids, found, where)
        own = np.concatenate([each.people == person for each, person in zip(found, person_Q, strict=True)])
        table.insert(4, "is_own", own)
        return table

    def query_vectors(
        self, z_QE, side: str = "dna", k: int = 10, where: dict | None = None, names: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Which people fit vectors of the shared space: a new scan, a new genome, a sum of regions.

        Args:
            z_QE: (Q, E) or (E,) array or tensor of any float type; divided by its norm first, so that scores are cosines.
            side: which embeddings are searched: "dna" for genomes that fit, "fmri" for scans.
            k: people to return for each query.
            where: see `select_people`.
            names: of the queries, for the column query; by default their numbers from 0.

        Returns:
            As `query_people`, without is_own.

        Raises:
            ValueError: an unknown side, vectors of another width, not finite or without a direction, names of another number,
                k below 1, filters that `select_people` refuses.
        """
        z_QE = unit_vectors(z_QE, self.dna.shape[1])
        names = list(range(len(z_QE))) if names is None else list(names)
        if len(names) != len(z_QE):
            raise ValueError(f"Index: expected {len(z_QE)} names, one a query, got {len(names)}.\n  fix: name every vector.")
        return self._table(names, self._nearest([row[None] for row in z_QE], side, k, where), where)

    def metrics(self, ks: Sequence[int] = (1, 5, 10), block: int | None = None) -> dict[str, dict[str, float | int | None]]:
        """Retrieval figures both ways, every row a query and right when it finds any row of its person.

        Memory beside the rows: both sides in float64 and at most 1 GiB.

        Args:
            ks: recall is given at these: a row of the own person among the k best rows; None where k takes in all of them.
            block: queries scored at once.

        Returns:
            {"fmri_to_dna": {"n", "candidates", "recall@k", "chance_recall@k", "mrr", "chance_mrr", "median_rank",
            "chance_median_rank", "map", "chance_map", "ties"}, "dna_to_fmri": …}. n counts the rows whose person has a row on
            the other side, candidates the rows they rank; ranks are those of the first own row, map is over all own rows; tied
            rows count in expectation over their order.

        Raises:
            ValueError: nobody has rows on both sides, or k below 1.
        """
        return {direction: window_metrics(found, candidates, ks) for direction, found, candidates in self._window_ranks(block)}

    def _window_ranks(self, block: int | None):
        """(direction, WindowRanks, number of candidate rows) both ways; with one row a person one pass serves both."""
        paired = np.array_equal(self.fmri_person, self.dna_person) and len(np.unique(self.fmri_person)) == len(self.fmri)
        rows = max(len(self.fmri), len(self.dna))
        block = block or max(1, min(max(BLOCK_NUMBERS // rows, LEAST_BLOCK), MOST_NUMBERS // rows))
        both = rank_both_ways(self.fmri, self.dna, block=block) if paired else None
        for direction, (asking, side) in DIRECTIONS.items():
            (z_query_QE, person_Q), (z_candidate_CE, person_C) = self._side(asking), self._side(side)
            if both is None:
                found = rank_windows(z_query_QE, z_candidate_CE, person_Q, person_C, block)
            else:
                ranks, ties, one = getattr(both, direction), getattr(both, f"ties_{direction}"), np.ones(len(person_Q), np.int64)
                found = WindowRanks(ranks, ties, one, expected_precision(ranks - (ties + 1) / 2, ties, 0 * one, one), one)
            yield direction, found, len(person_C)

    def _side(self, side: str) -> tuple[np.ndarray, np.ndarray]:
        if side not in SIDES:
            raise ValueError(f'Index: expected a side fmri or dna, got "{side}".\n  fix: "dna" searches genomes, "fmri" scans.')
        return (self.fmri, self.fmri_person) if side == "fmri" else (self.dna, self.dna_person)

    def _nearest(self, queries: list[np.ndarray], side: str, k: int, where: dict | None) -> list[Nearest]:
        require_whole("k", k)
        rows_CE, person_C = self._side(side)
        if where:
            # The subset is searched exactly whatever the index: FAISS would have to look past all who are left out.
            kept = np.flatnonzero(select_people(self.people, where)[person_C])
            if not kept.size:
                raise ValueError(
                    f"Index: expected a filter that leaves somebody with a row of {side}, got none.\n  fix: widen the filter."
                )
            return search_exact(queries, rows_CE[kept], person_C[kept], k)
        if self.search == "exact":
            return search_exact(queries, rows_CE, person_C, k)
        return self._proposed(queries, side, k)

    def _proposed(self, queries: list[np.ndarray], side: str, k: int) -> list[Nearest]:
        """FAISS proposes rows enough for k people, these are ranked exactly; everybody is where it finds too few."""
        rows_CE, person_C = self._side(side)
        rows_a_person = np.bincount(person_C)
        enough = min(k, np.count_nonzero(rows_a_person))
        proposed = self._faiss[side].propose(np.concatenate(queries), k * int(rows_a_person.max()))
        ends = np.cumsum([len(each) for each in queries])
        nearest = []
        for query, end in zip(queries, ends, strict=True):
            rows = np.unique(proposed[end - len(query) : end])
            rows = rows[rows >= 0]
            if len(np.unique(person_C[rows])) < enough:
                rows = np.arange(len(person_C))
            nearest += search_exact([query], rows_CE[rows], person_C[rows], k)
        return nearest

    def _table(self, names: Sequence, found: list[Nearest], where: dict | None) -> pd.DataFrame:
        rank = "rank_among_proposed" if self.search in APPROXIMATE and not where else "rank"
        people = np.concatenate([each.people for each in found])
        columns = self.people.iloc[people].reset_index(drop=True)
        table = pd.DataFrame(
            {
                "query": pd.Series(names).repeat([len(each.people) for each in found]).reset_index(drop=True),
                rank: np.concatenate([each.ranks for each in found]),
                "subject_id": columns.pop("subject_id"),
                "score": np.concatenate([each.scores for each in found]),
            }
        )
        return table.join(columns.rename(columns={name: f"people.{name}" for name in RESULT_COLUMNS}))


def open_index(
    place: str | Path,
    name: str = "embeddings",
    model: str | None = None,
    search: str = "exact",
    people: pd.DataFrame | None = None,
    nprobe: int | None = None,
    target_agreement: float = TARGET_AGREEMENT,
) -> EmbeddingIndex:
    """Open what `EmbeddingIndex.save` or an alignment's run left.

    Args:
        place: folder of NAME.safetensors and NAME.parquet, or either file.
        name: of both files.
        model: fingerprint that the embeddings must have been made with; not checked when None.
        search: see `EmbeddingIndex`.
        people: table to filter by and to show in place of the saved one; matched by subject_id, may hold more people.
        nprobe, target_agreement: see `EmbeddingIndex`.

    Raises:
        FileNotFoundError: a file of the pair is missing.
        ModuleNotFoundError: FAISS is asked for and not installed.
        ValueError: see `read_embeddings`, `join_people` and `EmbeddingIndex`.
    """
    fmri, dna, embedded, fmri_person, dna_person, made_by = read_embeddings(place, name, model)
    if people is not None:
        embedded = join_people(embedded, people, str(place))
    owners = {"fmri_person": fmri_person, "dna_person": dna_person}
    searched = {"search": search, "nprobe": nprobe, "target_agreement": target_agreement}
    return EmbeddingIndex(fmri, dna, embedded, **owners, model=made_by, **searched, source=str(place))
