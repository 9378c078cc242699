"""Embed genomes: genotypes, a reference and regions flow in, frozen embeddings of people's distinct sequences flow out.

    accelerate launch recipes/embed_dna.py data.root=DIR data.genotypes=… data.reference=… data.regions=… [key=value …]

Sequences already in the store are not embedded again; an interrupted run goes on with the next region.
"""

import sys
from pathlib import Path

from brainmt_align.atomic import write_atomically
from brainmt_align.config import EmbedDNAConfig, load_config, to_yaml
from brainmt_align.data import dna_store, simulate
from brainmt_align.data.cohort import read_genomes
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotypes import read_haplotypes
from brainmt_align.training import checkpoints
from brainmt_align.training.distributed import end_processes, start_processes
from encoders import load_dna_encoder


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe; returns the run folder."""
    # 1. Configuration and a place for the run.
    config = load_config(EmbedDNAConfig, sys.argv[1:] if argv is None else argv)
    data, dna, out = config.data, config.dna, Path(config.out)
    checkpoints.check_run_folder(out)

    # 2. One process embeds; the others, if any were launched, wait.
    accelerator = start_processes(out, config.threads)
    if accelerator.is_main_process:
        # 3. Whose genomes: the pair table's, or everyone's.
        if data.simulate:
            simulate.write_cohort(Path(data.root), config.simulation)
        chosen = read_genomes(
            genotypes=data.path("genotypes"), pairs=data.path("pairs"), id_map=data.path("id_map"), unmatched=data.unmatched
        )
        sources = data.genomes_of(chosen.samples)
        for note in [*chosen.notes, *check_genotypes(**sources)]:
            print(note)

        # 4. The store.
        if note := checkpoints.open_run_folder(out, to_yaml(config)).note:
            print(note)
        encoder = load_dna_encoder(dna.encoder, dna.checkpoint, layer=dna.layer, device=accelerator.device, seed=dna.seed)
        print(f"{dna.encoder}: {encoder.description}")
        haplotypes = read_haplotypes(**sources)
        summary = dna_store.build(haplotypes, encoder, Path(config.stores.dna), pooling=dna.pooling, strands=dna.strands)

        # 5. What was made, and whether the encoder tells people apart at all.
        audit = dna_store.variant_sensitivity(dna_store.open_store(summary.folder))
        write_atomically(out / "variant_sensitivity.tsv", lambda path: audit.to_csv(path, sep="\t", index=False))
        inputs = {key: data.path(key) for key in ("genotypes", "reference", "regions", "pairs")}
        facts = {"store": str(summary.folder), "encoder": encoder.description, "fingerprint": encoder.fingerprint}
        checkpoints.write_json(out / "provenance.json", checkpoints.provenance(inputs, facts))
        checkpoints.write_json(out / "metrics.json", {**summary._asdict(), "folder": str(summary.folder)})
        print(dna_store.describe_build(summary))
    end_processes(accelerator)
    checkpoints.close_run_folder(out)
    return out


if __name__ == "__main__":
    main()
