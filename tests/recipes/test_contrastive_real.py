"""The shipped configuration for real files: 12 real scans, 12 real genomes, artificial pairs."""

import json
from pathlib import Path

import pandas as pd

from brainmt_align.data.dna_store import open_store
from recipes import contrastive

CONFIG = Path(__file__).parents[2] / "recipes" / "configs" / "contrastive_real.yaml"


def test_real_files_go_through_and_the_run_says_that_chance_is_the_answer(real_dir, tmp_path, capsys):
    stores = [f"stores.bold={tmp_path / 'bold'}", f"stores.dna={tmp_path / 'dna'}"]
    out = contrastive.main([f"config={CONFIG}", f"data.root={real_dir}", *stores, f"out={tmp_path / 'run'}", "train.epochs=2"])
    said = capsys.readouterr().out
    assert "The pairs are artificial" in said and "chance is the right answer" in said
    assert "random weights (seed 0)" in said
    assert "95 sequences, 194,576 bases embedded in" in said

    pairs = pd.read_csv(real_dir / "artificial_pairs.tsv", sep="\t")
    record = json.loads((out / "metrics.json").read_text())
    assert record["people"] == {"train": 6, "validation": 2, "test": 4}
    assert record["artificial_pairs"] is True and record["simulated"] is False
    for figures in record["retrieval"].values():
        assert figures["recall@5"] is None and figures["chance_recall@1"] == 0.25
        assert figures["permutations"] == 24  # every pairing of 4 people
        assert not any(name.startswith("oracle") for name in figures)
    assert set(pd.read_parquet(out / "embeddings.parquet")["sample_id"]) <= set(pairs["sample_id"])
    (store,) = (tmp_path / "dna").iterdir()
    assert sorted(open_store(store).sample_ids) == sorted(pairs["sample_id"])
