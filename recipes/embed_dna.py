"""Embed genomes: genotypes, a reference and regions flow in, frozen embeddings of people's distinct sequences flow out.

    accelerate launch recipes/embed_dna.py data.root=DIR data.genotypes=… data.reference=… data.regions=… [key=value …]

The sequences are shared out among all processes of the launch. Those already in the store are not embedded again; after a kill
the same command, with as many processes as you like, goes on from whatever any of them had finished.
"""

import re
import sys
import time
from pathlib import Path
from typing import Any

from brainmt_align.atomic import require_writable, write_atomically
from brainmt_align.config import EmbedDNAConfig, default_yaml, load_config, to_yaml
from brainmt_align.data import dna_audit, dna_store, simulate
from brainmt_align.data.cohort import read_genomes
from brainmt_align.data.genotype_checks import check_genotypes
from brainmt_align.data.haplotypes import list_regions, read_haplotypes
from brainmt_align.data.region_shapes import WHOLE
from brainmt_align.reporting.report import write_report
from brainmt_align.training import checkpoints
from brainmt_align.training.distributed import end_processes, share_of_work, start_processes, sum_counts
from brainmt_align.training.run_notes import RunNotes
from encoders import load_dna_encoder
from encoders.dna import DNAEncoder

READ = ("genotypes", "sample_file", "reference", "regions", "pairs", "id_map")  # of the cohort's files
COUNTS = ("passes", "bases", "replaced_letters", "masked_tokens")  # of what the network read


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe; returns the run folder."""
    # 1. Configuration and a place for the run.
    config = load_config(EmbedDNAConfig, sys.argv[1:] if argv is None else argv)
    data, dna, out, stores = config.data, config.dna, Path(config.out), Path(config.stores.dna)
    checkpoints.check_run_folder(out)
    if not stores.is_dir():  # a complete one may be read-only
        require_writable(stores, "stores.dna")

    # 2. The processes that share the work.
    accelerator = start_processes(out, config.threads)
    say, is_main = accelerator.print, accelerator.is_main_process
    say(f"{accelerator.num_processes} process(es) on {accelerator.device.type}")

    # 3. Whose genomes: the pair table's, or everyone's. Faults of the files stop here.
    with accelerator.main_process_first():
        if data.simulate:
            simulate.write_cohort(Path(data.root), config.simulation, progress=is_main)
    files = {key: data.path(key) for key in ("genotypes", "pairs", "id_map")}
    chosen = read_genomes(**files, unmatched=data.unmatched, options=data.genotype_options())
    sources = data.genomes_of(chosen.samples, config.stores.alleles)
    notes = RunNotes(say)
    for note in chosen.notes:
        notes.say_of_people(note)
    if is_main:
        notes.say_of_genotypes(check_genotypes(**sources))
    accelerator.wait_for_everyone()

    # 4. The encoder, and whether it reads regions of this length; what it refuses leaves an earlier run where it is.
    encoder = load_dna_encoder(**dna.encoder_words(), device=accelerator.device)
    say(f"{dna.encoder}: {encoder.description}")
    dna_store.require_fit(list_regions(**sources), encoder.max_bases, dna.overlap)
    try:
        if is_main and (note := checkpoints.open_run_folder(out, to_yaml(config)).note):
            print(note)

        # 5. The store.
        began = time.perf_counter()
        summary = dna_store.build(read_haplotypes(**sources), encoder, stores, **dna.store_words(), **share_of_work(accelerator))
        counts = sum_counts({key: encoder.counts[key] for key in COUNTS})
        seconds = time.perf_counter() - began
        notes.say(dna_store.describe_build(summary))
        notes.say(describe_counts(counts, seconds))

        # 6. What was made; then whether the encoder tells people apart at all.
        if is_main:
            inputs = {key: path for key, path in data.tables().items() if re.split("[ .]", key)[0] in READ}
            notes.write(out)
            facts = {"store": str(summary.folder), "encoder": encoder.description, "fingerprint": encoder.fingerprint}
            facts["processes"] = accelerator.num_processes
            checkpoints.write_json(out / "provenance.json", checkpoints.provenance(inputs, facts))
            figures = {**summary._asdict(), "folder": str(summary.folder), "encoder": counts}
            figures["bases_per_second"] = counts["bases"] / seconds
            checkpoints.write_json(out / "metrics.json", figures)  # the audit may run out of memory, and has a line to add
            audit = audit_store(config, summary.folder, sources, encoder)
            write_atomically(out / "variant_sensitivity.tsv", lambda path: audit.to_csv(path, sep="\t", index=False))
            figures["verdicts"] = audit["verdict"].value_counts().to_dict()
            checkpoints.write_json(out / "metrics.json", figures)
            write_report(out, default_yaml(EmbedDNAConfig))
        end_processes(accelerator)
    finally:
        checkpoints.close_run_folder(out)
    return out


def audit_store(config: EmbedDNAConfig, folder: Path, sources: dict[str, Any], encoder: DNAEncoder) -> Any:
    """The table of signal and noise of this run's regions; prints its summary."""
    regions = list_regions(**sources)
    before = encoder.counts["passes"]
    chosen = dna_audit.choose_evenly(regions, config.dna.audit_regions)
    noise = None
    if chosen and config.dna.pooling != "variant":  # at sites, which another reading frame or batch has elsewhere
        read = {"regions": chosen, "window": None, "settings": sources["settings"]._replace(shape=WHOLE)}  # shaped already
        noise = dna_audit.measure_noise(read_haplotypes(**{**sources, **read}), encoder, **config.dna.store_words())
    store = dna_store.open_store(folder, [region.name for region in regions])
    audit = dna_audit.variant_sensitivity(store, noise)
    print(dna_audit.describe_sensitivity(audit, encoder.counts["passes"] - before))
    return audit


def describe_counts(counts: dict[str, int], seconds: float) -> str:
    """What the network read, all processes together."""
    pace = f"{counts['bases'] / seconds:,.0f} bases a second over all processes"
    told = f"{counts['passes']:,} passes of {counts['bases']:,} bases, {pace}"
    return f"{told}; {counts['replaced_letters']:,} letters read as N, {counts['masked_tokens']:,} tokens left out for an N"


if __name__ == "__main__":
    main()
