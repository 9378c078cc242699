"""Tests of the room `dna_audit`: an encoder whose noise is known shows what is measured, what applies, and what is said of it."""

import contextlib

import numpy as np
import pandas as pd
import pytest
import torch

from brainmt_align.data import dna_audit
from brainmt_align.data.dna_audit import choose_evenly, describe_sensitivity, measure_noise, variant_sensitivity
from brainmt_align.data.stored_dna import open_store
from encoders import load_dna_encoder
from tests.dna_files import CountingEncoder, build_quietly, make_region

WORDS = {"pooling": "mean", "strands": "both", "overlap": None}


class NoisyEncoder(CountingEncoder):
    """1,024 + its A's, and the places of its C's in their codon; moved by 0.25 in a batch and by 0.5 in the other precision."""

    width = 2
    bases_per_token = 1
    batch_tokens = 60

    def __init__(self, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.dtype, self.other, self.calls = dtype, None, []

    def vector(self, sequence):
        return [1024 + sequence.count("A"), sum(i % 3 for i, letter in enumerate(sequence) if letter == "C")]

    def embed(self, sequences, pooling="mean", strands="both", overlap=None):
        self.calls.append((len(sequences), self.other))
        moved = 0.25 * (len(sequences) > 1) + 0.5 * (self.other is not None)
        return torch.tensor([self.vector(sequence) for sequence in sequences], dtype=torch.float32) + torch.tensor([moved, 0])

    @contextlib.contextmanager
    def in_precision(self, dtype):
        self.other = dtype
        yield
        self.other = None


class CodonEncoder(NoisyEncoder):
    bases_per_token = 3


SOME = make_region("A", {"anna": ("AAAAGGGGGG", "GAAAGGGGGG"), "ben": ("GGGAGGGGGG", "GGTTGGGGGGG")}, "AAAAGGGGGG")
SAME = make_region("B", {"anna": ("ACGT", "ACGT"), "ben": ("ACGT", "ACGT")}, "ACGT")


def stored(tmp_path, regions, encoder):
    return open_store(build_quietly(regions, encoder, tmp_path).folder, [region.name for region in regions])


def test_choose_evenly_keeps_the_ends_and_the_order():
    assert choose_evenly(range(10), 4) == [0, 3, 6, 9]
    assert choose_evenly("ab", 4) == ["a", "b"]
    assert choose_evenly("abc", 1) == ["a"] and choose_evenly("abc", 0) == [] and choose_evenly("", 3) == []


@pytest.mark.parametrize(("dtype", "other"), [(torch.float32, "bfloat16"), (torch.bfloat16, "float32")])
def test_measure_noise_compares_a_sequence_with_itself_in_a_full_batch_and_another_precision(dtype, other):
    encoder = NoisyEncoder(dtype)
    table = measure_noise([SOME], encoder, **WORDS)
    assert table["region"].tolist() == ["A"] and table["dtype"].tolist() == [str(dtype).removeprefix("torch.")]
    assert table.loc[0, ["noise_batch", "noise_precision"]].tolist() == [0.25, 0.5] and np.isnan(table.loc[0, "noise_frame"])
    assert encoder.calls == [(1, None)] * 3 + [(1, other)] * 3 + [(6, None)]  # three of the length of most; 60 bases at once


def test_measure_noise_asks_the_encoder_as_the_store_did_and_measures_a_few_sequences():
    asked = []

    class Asking(NoisyEncoder):
        def embed(self, sequences, **words):
            asked.append(words)
            return super().embed(sequences, **words)

    people = {f"p{i}": (f"{'A' * i}{'G' * (20 - i)}", "G" * 20) for i in range(20)}
    encoder, words = Asking(), {"pooling": "last", "strands": "forward", "overlap": 3}
    measure_noise([make_region("A", people)], encoder, **words)
    assert encoder.calls == [(1, None)] * 4 + [(1, "bfloat16")] * 4 + [(4, None)]
    assert all(each == words for each in asked)


def test_measure_noise_is_nothing_in_a_batch_where_sequences_run_alone_anyway():
    encoder = NoisyEncoder()
    encoder.batch_tokens = 1
    table = measure_noise([SAME], encoder, **WORDS)
    assert table.loc[0, "noise_batch"] == 0


def test_measure_noise_reads_a_sequence_in_every_frame():
    encoder = CodonEncoder()
    region = make_region("A", {"anna": ("AACTTCTT", "AACTTCTT")})
    frames = [encoder.vector(frame) for frame in ("AACTTC", "ACTTCT", "CTTCTT")]
    distances = [np.hypot(*np.subtract(a, b)) for a in frames for b in frames]
    assert measure_noise([region], encoder, **WORDS).loc[0, "noise_frame"] == max(distances) > 0
    assert np.isnan(measure_noise([make_region("A", {"anna": ("ACTC", "ACTC")})], encoder, **WORDS).loc[0, "noise_frame"])


def test_measure_noise_takes_a_real_encoder():
    encoder = load_dna_encoder("caduceus", device="cpu")
    before = encoder.counts["passes"]
    table = measure_noise([SOME], encoder, **WORDS)
    assert table.loc[0, "noise_batch"] < 1e-5 < table.loc[0, "noise_precision"] < 1
    full = encoder.batch_tokens // 10
    assert encoder.counts["passes"] - before <= 2 * (3 + 3 + min(full, 12))


def test_variant_sensitivity_is_the_distance_of_haplotypes_from_each_other_and_from_the_reference(tmp_path):
    table = variant_sensitivity(stored(tmp_path, [SOME, SAME], NoisyEncoder())).set_index("region")
    a = table.loc["A"]  # numbers of A: 4, 3, 1, 0; the reference has 4
    assert (a["sequences"], a["signal"], a["closest"], a["from_reference"]) == (4, 2.5, 1, 3)
    assert a["rounding"] == a["noise"] == 1028.25 * 2.0**-23 and a["noise_of"] == "rounding"
    assert a["ratio"] == 2.5 / a["noise"] and a["below_noise"] == 0 and a["verdict"] == "above rounding"
    assert table.loc["A", ["noise_batch", "noise_precision", "noise_frame"]].isna().all()
    b = table.loc["B"]
    assert b["sequences"] == 1 and np.isnan(b["signal"]) and np.isnan(b["ratio"]) and b["verdict"] == "no variation"


def test_variant_sensitivity_looks_at_pairs_of_sequences_evenly_spread(tmp_path, monkeypatch):
    monkeypatch.setattr(dna_audit, "SPREAD", 3)
    people = {f"p{i}": ("A" * i + "G", "A" * i + "G") for i in range(9)}
    table = variant_sensitivity(stored(tmp_path, [make_region("A", people, "G")], NoisyEncoder()))
    assert table.loc[0, ["sequences", "signal", "closest"]].tolist() == [9, 4, 4]  # of 0, 4 and 8


@pytest.mark.parametrize(
    ("dtype", "noises", "largest", "kind", "verdict"),
    [
        ("float32", (0.5, 9.0, np.nan), 0.5, "batch", "above noise"),
        ("bfloat16", (0.5, 9.0, np.nan), 9.0, "precision", "under noise"),
        ("float32", (0.5, 9.0, 2.5), 2.5, "frame", "under noise"),
        ("float32", (0.0, 9.0, np.nan), 1028.25 * 2.0**-23, "rounding", "above noise"),
    ],
)
def test_variant_sensitivity_takes_the_largest_noise_that_applies(tmp_path, dtype, noises, largest, kind, verdict):
    noise = pd.DataFrame([("A", *noises, dtype)], columns=["region", "noise_batch", "noise_precision", "noise_frame", "dtype"])
    table = variant_sensitivity(stored(tmp_path, [SAME, SOME], NoisyEncoder()), noise).set_index("region")
    assert table.loc["A", ["noise", "noise_of", "ratio", "verdict"]].tolist() == [largest, kind, 2.5 / largest, verdict]
    assert table.loc["A", "below_noise"] == sum(distance <= largest for distance in (1, 3, 4))
    assert table.loc["A", ["noise_batch", "noise_precision"]].tolist() == list(noises[:2])
    assert table.index.tolist() == ["B", "A"] and np.isnan(table.loc["B", "noise_batch"])
    told = describe_sensitivity(table.reset_index(), 1234)
    ratio = f"{2.5 / largest:,.4g}"
    start = "Variant sensitivity: noise measured in 1 of 2 regions (1,234 passes); "
    assert told.startswith(f"{start}signal ÷ noise {ratio} in the middle, least {ratio} (A).")
    warning = f"\nWARNING: in 1 regions the haplotypes' embeddings differ by no more than noise: A ({kind})."
    assert told.endswith(warning) == (verdict == "under noise")


def test_variant_sensitivity_says_so_where_an_encoder_gives_all_haplotypes_one_vector(tmp_path):
    class Deaf(NoisyEncoder):
        def vector(self, sequence):
            return [0.0, 0.0]

    table = variant_sensitivity(stored(tmp_path, [SOME], Deaf()))
    assert table.loc[0, ["signal", "noise", "below_noise", "verdict"]].tolist() == [0, table.loc[0, "rounding"], 3, "under noise"]
    assert "; signal ÷ float32 rounding 0 in the middle, least 0 (A).\nWARNING" in describe_sensitivity(table, 0)
    assert "no more than noise: A (rounding)" in describe_sensitivity(table, 0)
    assert describe_sensitivity(variant_sensitivity(stored(tmp_path / "b", [SAME], Deaf())), 0) == (
        "Variant sensitivity: noise measured in 0 of 1 regions (0 passes)."
    )
