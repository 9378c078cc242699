"""Prepare scans: NIfTI runs of any lab flow in, the compact store of normalised in-mask windows flows out.

    accelerate launch recipes/prepare_fmri.py data.root=DIR data.bold=derivatives [key=value …]

Finished runs are recognised by their source and settings and left as they are; runs that fail are listed together at the end.
"""

import sys
from pathlib import Path

from brainmt_align.atomic import write_atomically
from brainmt_align.config import PrepareFMRIConfig, default_yaml, load_config, to_yaml
from brainmt_align.data import bold_store, simulate
from brainmt_align.data.cohort import read_scans
from brainmt_align.data.scan_table import describe_bare_runs
from brainmt_align.reporting.report import write_report
from brainmt_align.training import checkpoints
from brainmt_align.training.distributed import end_processes, start_processes
from brainmt_align.training.run_notes import RunNotes


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe; returns the run folder."""
    # 1. Configuration and a place for the run.
    config = load_config(PrepareFMRIConfig, sys.argv[1:] if argv is None else argv)
    data, out = config.data, Path(config.out)
    checkpoints.check_run_folder(out)

    # 2. One process prepares; the others, if any were launched, wait.
    accelerator = start_processes(out, config.threads)
    try:
        if accelerator.is_main_process:
            # 3. Which scans there are: the pair table's, or all of data.bold.
            if data.simulate:
                simulate.write_cohort(Path(data.root), config.simulation)
            runs = read_scans(
                bold=data.path("bold"), space=data.space, pairs=data.path("pairs"),
                mask=data.path("mask"), mask_rule=data.mask_rule, root=Path(data.root),
            )  # fmt: skip
            notes = RunNotes()
            for note in describe_bare_runs(runs):
                notes.say_of_people(note)

            # 4. The store.
            if note := checkpoints.open_run_folder(out, to_yaml(config)).note:
                print(note)
            runs = bold_store.build(
                runs, Path(config.stores.bold),
                orientation=data.orientation, normalisation=data.normalisation, tr_s=data.tr_s, workers=config.workers,
            )  # fmt: skip

            # 5. What was made, run by run.
            write_atomically(out / "runs.tsv", lambda path: runs.to_csv(path, sep="\t", index=False))
            notes.write(out)
            inputs = {key: data.path(key) for key in ("pairs", "mask")}
            facts = {"store": config.stores.bold, "bold_sha256": bold_store.sources_hash(runs["store_path"])}
            checkpoints.write_json(out / "provenance.json", checkpoints.provenance(inputs, facts))
            figures = {"runs": len(runs), "people": int(runs["subject_id"].nunique()), "frames": int(runs["num_frames"].sum())}
            checkpoints.write_json(out / "metrics.json", figures)
            folder = Path(runs["store_path"].iloc[0]).parent
            print(f"{figures['runs']} runs of {figures['people']} people are in {folder}; see {out / 'runs.tsv'}")
            write_report(out, default_yaml(PrepareFMRIConfig))
        end_processes(accelerator)
    finally:
        checkpoints.close_run_folder(out)
    return out


if __name__ == "__main__":
    main()
