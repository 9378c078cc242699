"""DNA audit: a store, and a few of its sequences with their encoder, flow in; signal against noise, a row a region, flows out.

An encoder may give two haplotypes vectors that differ by less than the same haplotype's own vector does when it runs in another
batch, in another precision or, for networks that read k-mers, from another first base. Such a region tells nobody apart.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist

from brainmt_align.data.haplotypes import RegionHaplotypes
from brainmt_align.data.stored_dna import DNAStore

SPREAD = 64
"""Sequences of a region whose pairs are looked at, evenly spread over those that people carry: at most 2,016 pairs."""

MEASURED = 4
"""Sequences of a region whose noise is measured, evenly spread over those of its commonest length."""

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


def choose_evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items in their order, the first and the last among them where there are two or more."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def measure_noise(
    haplotypes: Iterable[RegionHaplotypes], encoder: MeasurableEncoder, *, pooling: str, strands: str, overlap: int | None
) -> pd.DataFrame:
    """How far the vector of one and the same sequence moves for reasons that are not in its bases.

    At most MEASURED sequences a region run alone (twice), once with all others that fit a full batch, and k times from offsets.

    Args:
        haplotypes: regions as `haplotypes.read_haplotypes` yields them.
        encoder: the one that made the store.
        pooling, strands, overlap: of the store.

    Returns:
        One row a region: `region`; Euclidean distances, each the largest of the measured sequences: `noise_batch` between running
        alone and in a full batch of its length, `noise_precision` between float32 and bfloat16, `noise_frame` between the
        k = bases_per_token reading frames, sequence[o:] for o in 0 … k-1, cut to as many whole tokens as all of them have (NaN
        where k is 1); `dtype`, the precision in which the encoder made the store.
    """
    asked = _Asked(encoder, {"pooling": pooling, "strands": strands, "overlap": overlap})
    dtype = str(encoder.dtype).rpartition(".")[2]
    rows = []
    for region in haplotypes:
        length = Counter(map(len, region.sequences)).most_common(1)[0][0]
        alike = [sequence for sequence in region.sequences if len(sequence) == length]
        sequences = choose_evenly(alike, MEASURED)
        alone = np.concatenate([asked.embed([sequence]) for sequence in sequences])
        with encoder.in_precision(OTHER_PRECISION[dtype]):
            otherwise = np.concatenate([asked.embed([sequence]) for sequence in sequences])
        together = asked.embed(_full_batch(sequences, alike, encoder.batch_tokens))[: len(sequences)]
        frame = max(_frame_distance(sequence, asked) for sequence in sequences)
        rows.append((region.name, _largest(alone - together), _largest(alone - otherwise), frame, dtype))
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
        "above rounding" where the noise was not measured, "no variation" where people carry fewer than two sequences (NaN then).
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
        verdict = UNDER if row["signal"] <= largest else ABOVE if pd.notna(row["noise_batch"]) else ROUNDING
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
    varying, measured = table[table["verdict"] != SAME], int(table["noise_batch"].notna().sum())
    told = f"Variant sensitivity: noise measured in {measured} of {len(table)} regions ({passes:,} passes)"
    judged, noise = varying[varying["noise_batch"].notna()], "noise"
    if judged.empty:
        judged, noise = varying, "float32 rounding"
    if len(judged):
        ratios = judged["ratio"].fillna(0)
        least = judged.loc[ratios.idxmin(), "region"]
        told += f"; signal ÷ {noise} {ratios.median():,.4g} in the middle, least {ratios.min():,.4g} ({least})"
    under = varying[varying["verdict"] == UNDER]
    if len(under):
        names = ", ".join(f"{row.region} ({row.noise_of})" for row in under.head(10).itertuples())
        more = f" and {len(under) - 10} more" if len(under) > 10 else ""
        told += f".\nWARNING: in {len(under)} regions the haplotypes' embeddings differ by no more than noise: {names}{more}"
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


def _full_batch(sequences: list[str], alike: list[str], batch_tokens: int) -> list[str]:
    """The sequences and as many others of their length as run at once: the region's own, then rotations of the first."""
    first, room = sequences[0], max(batch_tokens // len(sequences[0]), len(sequences))
    turned = (first[i:] + first[:i] for i in range(1, min(room, len(first))))
    return list(dict.fromkeys([*sequences, *alike, *turned]))[:room]


def _frame_distance(sequence: str, asked: _Asked) -> float:
    """The largest distance between two reading frames of a sequence; NaN where there is one frame or no whole token in each."""
    k = asked.encoder.bases_per_token
    length = (len(sequence) - k + 1) // k * k
    if k == 1 or length < k:
        return np.nan
    return float(pdist(asked.embed([sequence[offset : offset + length] for offset in range(k)])).max())


def _largest(differences: np.ndarray) -> float:
    """The largest norm of the rows."""
    return float(np.linalg.norm(differences, axis=1).max())
