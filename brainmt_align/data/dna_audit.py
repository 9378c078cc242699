"""DNA audit: a store, and a few of its sequences with their encoder, flow in; signal against noise, a row a region, flows out.

An encoder may give two haplotypes vectors that differ by less than the same difference does when both run in other batches, in
another precision or, for networks that read k-mers, from another first base. Such a region tells nobody apart.

Like is compared with like. What a model gets of a person are features, a haplotype's vector less the reference's; so signal and
noise are both medians over pairs of sequences, of the difference of their vectors: signal of how large it is, noise of how far it
moves when both are embedded in another way. What moves all sequences of a region alike drops out of features, and is no noise.
"""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist

from brainmt_align.data.haplotypes import RegionHaplotypes
from brainmt_align.data.stored_dna import DNAStore
from brainmt_align.listing import some

logger = logging.getLogger(__name__)

SPREAD = 64
"""Sequences of a region whose pairs are looked at, evenly spread over those that people carry: at most 2,016 pairs."""

MEASURED = 4
"""Sequences of a region whose noise is measured, evenly spread over those of the commonest length, the reference aside."""

ABOVE, UNDER, ROUNDING, SAME = "above noise", "under noise", "above rounding", "no variation"
NOISES = ("noise_batch", "noise_precision", "noise_frame")
OTHER_PRECISION = {"float32": "bfloat16", "bfloat16": "float32"}

Item = TypeVar("Item")


class MeasurableEncoder(Protocol):
    """What a measurement of noise needs of an encoder; `encoders.load_dna_encoder` returns such."""

    batch_tokens: int
    bases_per_token: int
    dtype: object  # of PyTorch

    def embed(self, sequences: Sequence[str], *, pooling: str, strands: str, overlap: int | None):
        """Strings → (len(sequences), width) float32 on the CPU."""

    def in_precision(self, dtype: str) -> AbstractContextManager:
        """The network computes in "float32" or "bfloat16" inside."""


class _Asked(NamedTuple):
    """An encoder and how a store asks it."""

    encoder: MeasurableEncoder
    settings: dict[str, str | int | None]

    def embed(self, sequences: list[str]) -> np.ndarray:
        """(n, D) float64."""
        return np.asarray(self.encoder.embed(sequences, **self.settings)).astype(np.float64)

    def alone(self, sequences: list[str]) -> np.ndarray:
        """(n, D), each in a batch of its own."""
        return np.concatenate([self.embed([sequence]) for sequence in sequences])

    def otherwise(self, sequences: list[str], dtype: str) -> np.ndarray:
        """(n, D), each in a batch of its own, in the precision that is not `dtype`."""
        with self.encoder.in_precision(OTHER_PRECISION[dtype]):
            return self.alone(sequences)

    def together(self, measured: list[str], alike: list[str]) -> np.ndarray:
        """(1 + n, D): the reference and n sequences in full batches, in one where they are of one length."""
        reference, *sequences = measured
        budget = self.encoder.batch_tokens
        if len(reference) == len(alike[0]):
            return self.embed(_full_batch(measured, alike, budget))[: len(measured)]
        own = self.embed(_full_batch([reference], [], budget))[:1]
        return np.concatenate([own, self.embed(_full_batch(sequences, alike, budget))[: len(sequences)]])


def choose_evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items in their order, the first and the last among them where there are two or more."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def measure_noise(
    haplotypes: Iterable[RegionHaplotypes], encoder: MeasurableEncoder, *, pooling: str, strands: str, overlap: int | None
) -> pd.DataFrame:
    """How far features, haplotypes' vectors less the reference's, move for reasons that are not in the bases.

    Haplotypes and reference are embedded alike in every way, since what moves all of them tells nobody apart: each alone, each
    alone in the other precision, each in a full batch, and all from the same first base. Measured are the reference and at
    most MEASURED other sequences a region. A noise that cannot be measured, as where the other precision does not fit the memory
    or a cut text has no token without an N, is NaN, and one warning says so.

    Args:
        haplotypes: regions as `haplotypes.read_haplotypes` yields them.
        encoder: the one that made the store.
        pooling, strands, overlap: of the store.

    Returns:
        One row a region: `region`; medians, over the pairs a, b of the measured sequences, of the norm of (a - b embedded in
        another way) - (a - b embedded plainly), which for b the reference is the move of a's feature: `noise_batch` for a full
        batch of its length against running alone, `noise_precision` for bfloat16 against float32 or the other way round,
        `noise_frame` for the reading frames sequence[o:], o in 1 … k-1, against o = 0, with k = bases_per_token, each cut to as
        many whole tokens as all of a sequence's frames have, median over o as well (NaN where k is 1); `dtype`, the precision in
        which the encoder made the store. NaN where people carry nothing but the reference.
    """
    asked = _Asked(encoder, {"pooling": pooling, "strands": strands, "overlap": overlap})
    dtype = str(encoder.dtype).rpartition(".")[2]
    rows, faults = [], []
    for region in haplotypes:
        alike = _commonest_length([sequence for sequence in region.sequences if sequence != region.reference])
        noises = dict.fromkeys(NOISES, np.nan)
        for kind, move in _ways(region.reference, alike, asked, dtype).items() if alike else ():
            try:
                noises[kind] = _middle(move())
            except (ValueError, RuntimeError) as error:
                faults.append(f"{kind} of region {region.name} ({str(error).partition(chr(10))[0]})")
        rows.append((region.name, *noises.values(), dtype))
    if faults:
        logger.warning(
            "DNA audit: %d noises cannot be measured and are left out, first of all %s.\n"
            "  fix: dna.audit_regions=0 measures none.",
            len(faults),
            faults[0],
        )
    return pd.DataFrame(rows, columns=["region", *NOISES, "dtype"])


def variant_sensitivity(store: DNAStore, noise: pd.DataFrame | None = None) -> pd.DataFrame:
    """Whether the encoder tells people apart: how far the embeddings of distinct haplotypes lie from each other, against noise.

    Args:
        store: its people's sequences are looked at.
        noise: as of `measure_noise`, for some of the regions; None: of none.

    Returns:
        One row a region: `region`; `sequences`, distinct ones that the store's people carry; Euclidean distances `signal` and
        `closest`, the median and the smallest of their pairs (of SPREAD sequences, evenly spread, where there are more), and
        `from_reference`, the median from the reference's embedding; `rounding`, float32 epsilon × norm of the reference's
        embedding; the columns of `noise`, NaN for regions that are not in it; `noise`, the largest that applies: rounding, batch,
        frame, and precision for a bfloat16 store; `noise_of`, which one that is; `ratio`, signal ÷ noise; `below_noise`, the
        sequences other than the reference that lie no farther than the noise from it; `verdict`: "above noise", "under noise",
        "above rounding" where no noise that applies was measured, "no variation" where people carry fewer than two sequences
        (NaN then).
    """
    columns = ["region", *NOISES, "dtype"]
    measured = pd.DataFrame(columns=columns) if noise is None else noise
    found = pd.DataFrame([_signal(store, r) for r in range(len(store.regions))])
    table = found.drop(columns="distances").merge(measured, on="region", how="left")
    rows = []
    for row, distances in zip(table.to_dict("records"), found["distances"], strict=True):
        kinds = ["rounding", "noise_batch", "noise_frame", *(["noise_precision"] if row["dtype"] == "bfloat16" else [])]
        applying = {kind: row[kind] for kind in kinds if pd.notna(row[kind])}
        name, largest = max(applying.items(), key=lambda item: item[1])
        verdict = UNDER if row["signal"] <= largest else ABOVE if len(applying) > 1 else ROUNDING
        told = {
            "noise": largest,
            "noise_of": name.removeprefix("noise_"),
            "ratio": row["signal"] / largest if largest else np.nan,
            "below_noise": int((distances <= largest).sum()),
            "verdict": verdict if row["sequences"] > 1 else SAME,
        }
        rows.append({**row, **told})
    return pd.DataFrame(rows).drop(columns="dtype").astype(dict.fromkeys(NOISES, float))


def describe_sensitivity(table: pd.DataFrame, passes: int) -> str:
    """What `variant_sensitivity` found in a sentence, and in a second one the regions in which the encoder tells nobody apart.

    Args:
        table: of `variant_sensitivity`.
        passes: strings that the network ran to measure the noise.
    """
    measured = table[list(NOISES)].notna().any(axis=1)
    varying = table[table["verdict"] != SAME]
    told = f"Variant sensitivity: noise measured in {measured.sum()} of {len(table)} regions ({passes:,} passes)"
    judged = varying[measured[varying.index]]
    judged = varying if judged.empty else judged
    if len(judged):
        noise = "float32 rounding" if (judged["noise_of"] == "rounding").all() else "noise"
        ratios = judged["ratio"].fillna(0)
        least = judged.loc[ratios.idxmin(), "region"]
        told += f"; signal ÷ {noise} {ratios.median():,.4g} in the middle, least {ratios.min():,.4g} ({least})"
    under = varying[varying["verdict"] == UNDER]
    if len(under):
        names = some([f"{row.region} ({row.noise_of})" for row in under.itertuples()], 10)
        told += f".\nWARNING: in {len(under)} regions the haplotypes' embeddings differ by no more than noise: {names}"
    return f"{told}."


def _signal(store: DNAStore, r: int) -> dict[str, object]:
    """One region's distances; `distances`: (n,) of each sequence but the reference from the reference's embedding."""
    carried = np.unique(store.index[:, r])
    vectors = store.tables[r].astype(np.float64, copy=False)
    pairs = pdist(vectors[choose_evenly(carried, SPREAD)]) if carried.size > 1 else np.array([np.nan])
    distances = np.linalg.norm(vectors[carried[carried != store.reference_rows[r]]], axis=1)
    return {
        "region": store.regions[r],
        "sequences": carried.size,
        "signal": float(np.median(pairs)),
        "closest": float(pairs.min()),
        "from_reference": float(np.median(distances)) if distances.size else np.nan,
        "rounding": float(np.finfo(np.float32).eps * np.linalg.norm(store.reference[r].astype(np.float64))),
        "distances": distances,
    }


def _ways(reference: str, alike: list[str], asked: _Asked, dtype: str) -> dict[str, Callable[[], np.ndarray]]:
    """What measures the moves (1 + n, …, D) of the vectors of the reference and n of the sequences alike, by kind of noise."""
    measured = [reference, *choose_evenly(alike, MEASURED)]
    plain = functools.cache(lambda: asked.alone(measured))
    moves = (
        lambda: asked.together(measured, alike) - plain(),
        lambda: asked.otherwise(measured, dtype) - plain(),
        lambda: _frame_moves(measured, asked),
    )
    return dict(zip(NOISES, moves, strict=True))


def _commonest_length(sequences: list[str]) -> list[str]:
    """Those of the sequences that have the length of most."""
    lengths = Counter(map(len, sequences)).most_common(1)
    return [sequence for sequence in sequences if len(sequence) == lengths[0][0]]


def _middle(moves: np.ndarray) -> float:
    """Moves (1 + n, …, D) of the vectors of sequences → the median norm of the moves of all differences of two; NaN of none."""
    if not moves.size:
        return np.nan
    first, second = np.triu_indices(len(moves), 1)
    return float(np.median(np.linalg.norm(moves[first] - moves[second], axis=-1)))


def _full_batch(sequences: list[str], alike: list[str], batch_tokens: int) -> list[str]:
    """The sequences and as many others of their length as run at once: the region's own, then rotations of the first."""
    first, room = sequences[0], max(batch_tokens // len(sequences[0]), len(sequences))
    turned = (first[i:] + first[:i] for i in range(1, min(room, len(first))))
    return list(dict.fromkeys([*sequences, *alike, *turned]))[:room]


def _frame_moves(measured: list[str], asked: _Asked) -> np.ndarray:
    """(1 + n, k - 1, D): how vectors of the frames from base 1 on differ from the first frame's.

    Nothing is in it where there is one frame or no whole token in each.
    """
    k = asked.encoder.bases_per_token
    lengths = [(len(sequence) - k + 1) // k * k for sequence in measured]
    if k == 1 or min(lengths) < k:
        return np.empty(0)
    texts = [s[offset : offset + length] for s, length in zip(measured, lengths, strict=True) for offset in range(k)]
    vectors = asked.embed(texts).reshape(len(measured), k, -1)
    return vectors[:, 1:] - vectors[:, :1]
