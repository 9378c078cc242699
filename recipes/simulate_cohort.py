"""Write a simulated cohort: parameters flow in; NIfTI, VCF, FASTA, BED and TSV files with their truth flow out.

    accelerate launch recipes/simulate_cohort.py out=DIR [simulation.people=360 simulation.coupling=0.5 …]

The folder is then a cohort like any other: `data.root=DIR data.truth=truth.json`.
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

from brainmt_align.atomic import require_writable, write_atomically
from brainmt_align.config import SimulateCohortConfig, default_yaml, load_config, to_yaml
from brainmt_align.data import simulate
from brainmt_align.reporting.report import write_report
from brainmt_align.training import checkpoints
from brainmt_align.training.distributed import end_processes, start_processes
from brainmt_align.training.run_notes import RunNotes


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe; returns the folder of the cohort."""
    # 1. Configuration and a place for the files.
    config = load_config(SimulateCohortConfig, sys.argv[1:] if argv is None else argv)
    out = Path(config.out)
    require_writable(out, "out")

    # 2. One process writes; the others, if any were launched, wait.
    accelerator = start_processes(out, config.threads)
    if accelerator.is_main_process:
        simulate.write_cohort(out, config.simulation)

        # 3. What it is and how it came about, beside the files.
        inside = sum(1 for _ in out.rglob("*_bold.nii.gz"))
        write_atomically(out / "config.yaml", lambda path: path.write_text(to_yaml(config)))
        checkpoints.write_json(out / "provenance.json", checkpoints.provenance({}, {"simulated": True, "processes": 1}))
        checkpoints.write_json(
            out / "metrics.json", {"simulated": True, "scans": inside, "parameters": dataclasses.asdict(config.simulation)}
        )
        notes = RunNotes()
        for note in describe_simulation(config.simulation):
            notes.say(note)
        notes.write(out)
        print(f"{inside} simulated scans with their genomes lie in {out}; what was planted is in {out / 'truth.json'}")
        print(f"next: accelerate launch recipes/contrastive.py data.root={out} data.truth=truth.json out=runs/on_{out.name}")
        write_report(out, default_yaml(SimulateCohortConfig))
    end_processes(accelerator)
    return out


def describe_simulation(told: simulate.CohortParameters) -> Iterator[str]:
    """What was planted and what confounds it, in sentences."""
    grid = " x ".join(map(str, told.volume_shape))
    yield (
        f"{told.people:,} people, one run each: {told.frames:,} frames of {told.tr_s:g} s on {grid} voxels (D, H, W) of "
        f"{told.voxel_mm:g} mm; {told.regions} regions of {told.region_bases:,} bases"
    )
    coupled = f"genes make up {told.coupling:.0%} of the variance of each" if told.coupling else "genes have no part in them"
    yield f"{told.traits} latent traits shape the scans, each by {told.causal_variants} causal variants: {coupled}"
    yield f"families of {told.family_size} siblings" if told.family_size > 1 else "nobody is related to anybody"
    confounds = [f"{told.populations} populations"] * (told.populations > 1) + [f"{told.sites} scanners"] * (told.sites > 1)
    confounds += ["age"] * told.age + ["sex"] * told.sex + [f"{told.motion_mm:g} mm of motion a frame"] * (told.motion_mm > 0)
    yield f"beside the traits the scans show {', '.join(confounds)}" if confounds else "nothing confounds scans and genomes"
    if told.phenotypes:
        shares = f"{told.brain_share:.0%} by the brain, {told.genetic_share:.0%} by genes that the brain does not show"
        yield f"phenotypes are made {shares}, {told.confound_share:.0%} by age and sex where simulated, the rest chance"


if __name__ == "__main__":
    main()
