"""Embedding on files: any number of real processes, killed or whole, makes one store; what it costs is counted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import pytest

from brainmt_align.data.dna_store import open_store
from recipes import embed_dna
from tests.dna_files import files_of

ROOT = Path(__file__).parents[2]
PEOPLE, BASES, REGIONS = 20, 240, ((10, 250), (300, 460))
SETTINGS = """
import os, signal, sys
from brainmt_align.data import dna_embedding
from encoders import caduceus
caduceus.CPU_BYTES, dna_embedding.UNIT_SEQUENCES = 960 * 512, 4  # batches of four or six, a unit each
from recipes import embed_dna
"""
KILLED = """
write, left = dna_embedding.write_part, [3]
def write_and_die(*part):
    write(*part)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
if os.environ["RANK"] == "1":
    dna_embedding.write_part = write_and_die
"""
BROKEN = """
def refuse(*_):
    raise ValueError("this process has run out of luck")
if os.environ["RANK"] == "1":
    dna_embedding._embed = refuse
"""


@pytest.fixture(scope="module")
def genomes(tmp_path_factory):
    """Words for random phased genotypes of 20 people, SNPs and insertions in two regions: nearly all haplotypes are distinct."""
    folder = tmp_path_factory.mktemp("genomes")
    rng = np.random.default_rng(0)
    reference = "".join(rng.choice(list("ACGT"), size=500))
    (folder / "reference.fa").write_text(f">1\n{reference}\n")
    pysam.faidx(str(folder / "reference.fa"))
    (folder / "regions.bed").write_text("".join(f"1\t{start}\t{end}\tG{start}\n" for start, end in REGIONS))
    samples = [f"p{i}" for i in range(PEOPLE)]
    lines = ["##fileformat=VCFv4.2", "##contig=<ID=1>", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines.append("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]))
    for place in range(12, 480, 9):
        base = reference[place]
        alt = ["ACGT"["CGTA".index(base)], f"{base}A"][int(place % 60 == 0)]
        calls = [f"{a}|{b}" for a, b in rng.integers(0, 2, (PEOPLE, 2))]
        lines.append("\t".join(["1", str(place + 1), ".", base, alt, ".", ".", ".", "GT", *calls]))
    (folder / "genotypes.vcf").write_text("\n".join([*lines, ""]))
    pysam.tabix_index(str(folder / "genotypes.vcf"), preset="vcf")
    return [f"data.root={folder}", "data.bold=null", "data.participants=null", "threads=1"]


@pytest.fixture(scope="module")
def alone(genomes, tmp_path_factory):
    """The run of one process, in a process of its own as the others'."""
    folder = tmp_path_factory.mktemp("alone")
    launch("", 1, [*genomes, f"stores.dna={folder / 'dna'}", f"out={folder / 'run'}"])
    return json.loads((folder / "run" / "metrics.json").read_text())


def launch(code: str, processes: int, words: list[str], fails: bool = False) -> subprocess.CompletedProcess:
    """The recipe with `code` in front, under the launcher that `accelerate launch` uses for several processes on CPUs."""
    script = Path(words[-1].partition("=")[2]).with_suffix(f".{processes}.py")
    script.write_text(f"{SETTINGS}{code}\nembed_dna.main()\n")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/configs/accelerate/cpu2.yaml"]
    several = [*command, "--num_processes", str(processes), "--main_process_port", "0"] if processes > 1 else [sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*several, str(script), *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (result.returncode != 0) == fails, result.stderr[-3000:]
    return result


def test_embed_dna_counts_a_pass_for_each_strand_of_each_distinct_sequence(alone, genomes):
    store = open_store(alone["folder"])
    distinct = sum(len(table) for table in store.tables)
    assert alone["sequences_embedded"] == distinct > 60 and alone["sequences_reused"] == 0
    assert alone["encoder"] == {"passes": 2 * distinct, "bases": 2 * alone["bases"], "replaced_letters": 0, "masked_tokens": 0}
    assert alone["bases_per_second"] > 0 and alone["verdicts"] == {"above noise": 2}
    assert len(store.sample_ids) == PEOPLE and store.regions == ["G10", "G300"]


def test_two_processes_that_are_killed_and_three_that_go_on_make_the_store_of_one(alone, genomes, tmp_path):
    words = [*genomes, f"stores.dna={tmp_path / 'dna'}", f"out={tmp_path / 'run'}"]
    killed = launch(KILLED, 2, words, fails=True)
    assert "SIGKILL" in killed.stderr or f"exitcode  : -{signal.SIGKILL.value}" in killed.stderr
    folder = tmp_path / "dna" / Path(alone["folder"]).name
    parts = [path for path in folder.rglob("*.parts/*") if ".partial-" not in path.name]
    finished = sum(int(path.name.partition("-")[0]) for path in parts)
    if (folder / "G10.safetensors").exists():
        finished += len(open_store(folder, ["G10"]).tables[0])
    assert len(parts) >= 1 and 0 < finished < alone["sequences_embedded"]

    launch("", 3, words)
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["sequences_embedded"] == alone["sequences_embedded"] - finished
    assert figures["encoder"]["passes"] == 2 * figures["sequences_embedded"]
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["processes"] == 3
    assert files_of(folder) == files_of(Path(alone["folder"]))
    tables = [
        pd.read_csv(run / "variant_sensitivity.tsv", sep="\t")
        for run in (tmp_path / "run", Path(alone["folder"]).parents[1] / "run")
    ]
    pd.testing.assert_frame_equal(*tables)


def test_an_error_in_one_of_two_processes_ends_the_launch_with_its_message(genomes, tmp_path):
    result = launch(BROKEN, 2, [*genomes, f"stores.dna={tmp_path / 'dna'}", f"out={tmp_path / 'run'}"], fails=True)
    assert "this process has run out of luck" in result.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_embed_dna_refuses_a_store_that_cannot_be_written_to_before_any_work(genomes, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(embed_dna, "start_processes", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(PermissionError, match=r"refuses: Not a directory\.\n  file: .*file/dna\n  fix: set stores\.dna="):
        embed_dna.main([*genomes, f"stores.dna={tmp_path / 'file' / 'dna'}", f"out={tmp_path / 'run'}"])


def test_embed_dna_refuses_regions_too_long_for_the_encoder_before_it_embeds(genomes, tmp_path, monkeypatch):
    load = embed_dna.load_dna_encoder

    def load_short(*words, **named):
        encoder = load(*words, **named)
        encoder.max_bases = 150
        return encoder

    monkeypatch.setattr(embed_dna, "load_dna_encoder", load_short)
    words = [*genomes, f"stores.dna={tmp_path / 'dna'}", f"out={tmp_path / 'run'}"]
    with pytest.raises(ValueError, match=r"got 2 of 2 regions with more:\n  - G10 has 240 bases\n  - G300 has 160 bases\n"):
        embed_dna.main(words)
    assert not (tmp_path / "dna").exists()
    embed_dna.main([*words[:-1], f"out={tmp_path / 'windows'}", "dna.overlap=50", "dna.audit_regions=0"])
    (folder,) = (tmp_path / "dna").iterdir()
    assert folder.name.endswith("_mean_both_overlap50") and open_store(folder).header["overlap"] == "50"
    table = pd.read_csv(tmp_path / "windows" / "variant_sensitivity.tsv", sep="\t")
    assert table["noise_batch"].isna().all() and table["verdict"].tolist() == ["above rounding"] * 2


def test_embed_dna_leaves_a_finished_run_alone_when_the_encoder_refuses_a_word(genomes, tmp_path):
    words = [*genomes, f"stores.dna={tmp_path / 'dna'}", f"out={tmp_path / 'run'}", "dna.audit_regions=0"]
    for word, message in [
        ("dna.options.x=1", "Options of caduceus"),
        ("dna.layer=99", "layer"),
        ("dna.overlap=999999", "overlap"),
    ]:
        with pytest.raises(ValueError, match=message):
            embed_dna.main([*words, word])
        assert not (tmp_path / "run").exists() and not (tmp_path / "dna").exists()
    embed_dna.main(words)
    before = files_of(tmp_path / "run")
    with pytest.raises(ValueError, match="Options of caduceus"):
        embed_dna.main([*words, "dna.options.x=1"])
    assert files_of(tmp_path / "run") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alleles", "dna", "run"]


def test_embed_dna_tells_what_it_made_even_when_the_audit_fails(genomes, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(embed_dna.dna_audit, "measure_noise", fail)
    ids = tmp_path / "ids.csv"
    ids.write_text("participant_id,sample_id\n" + "".join(f"p{i},p{i}\n" for i in range(PEOPLE)))
    words = [*genomes, f"stores.dna={tmp_path / 'dna'}", f"data.id_map={ids}", f"out={tmp_path / 'run'}"]
    with pytest.raises(MemoryError):
        embed_dna.main(words)
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["sequences_embedded"] > 60 and "verdicts" not in figures
    facts = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert facts["store"] == figures["folder"] and "id_map" in facts["inputs"]
    assert not (tmp_path / "run" / ".lock").exists()


def test_embed_dna_tells_a_bfloat16_store_from_a_float32_one_and_measures_it_against_float32(alone, genomes, tmp_path):
    words = [*genomes, f"stores.dna={tmp_path / 'dna'}", "dna.dtype=bfloat16", "dna.pooling=last", f"out={tmp_path / 'run'}"]
    embed_dna.main(words)
    (folder,) = (tmp_path / "dna").iterdir()
    assert folder.name.endswith("_last_both") and folder.name[:12] != Path(alone["folder"]).name[:12]
    table = pd.read_csv(tmp_path / "run" / "variant_sensitivity.tsv", sep="\t")
    assert (table["noise"] == table[["noise_batch", "noise_precision"]].max(axis=1)).all()
