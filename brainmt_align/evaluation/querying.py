"""Querying: a finished alignment's run folder flows in; new scans, new genomes and regions become rows of its space."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pyarrow import ArrowException
from safetensors import SafetensorError
from torch import Tensor

from brainmt_align.data.bold import BoldSize, read_size
from brainmt_align.data.bold_store import build_run
from brainmt_align.data.datasets import PeopleDataset
from brainmt_align.data.dna_embedding import FrozenEncoder
from brainmt_align.evaluation import query_regions
from brainmt_align.evaluation.embedding import embed_people
from brainmt_align.evaluation.query_genomes import genome_features, require_encoder
from brainmt_align.evaluation.retrieval import EmbeddingIndex, open_index
from brainmt_align.model.alignment import AlignmentModel
from brainmt_align.model.rebuilding import model_fingerprint, rebuild_alignment
from brainmt_align.training.checkpoints import read_weights

PAIR = ("embeddings.safetensors", "embeddings.parquet")


@dataclass(frozen=True)
class AlignmentRun:
    """A trained alignment and the people it embedded; none of the training's data is needed.

    Attributes:
        folder: of the run.
        model: in eval mode, on `device`.
        recorded: what lies beside the weights: how scans and genomes must be read.
        fingerprint: of the weights, see `rebuilding.model_fingerprint`.
        device: where the model lives.
        index: the embedded people, to be queried; also those with several windows.
        provenance: where the run's figures come from.
    """

    folder: Path
    model: AlignmentModel
    recorded: dict[str, Any]
    fingerprint: str
    device: torch.device
    index: EmbeddingIndex
    provenance: dict[str, Any]

    @property
    def people(self) -> pd.DataFrame:
        """One row an embedded person: subject_id, sample_id and the cohort's columns."""
        return self.index.people

    @property
    def fmri_NE(self) -> Tensor:
        """Unit rows of scans, float32, on the CPU: a view of `index.fmri`; of person `index.fmri_person` where there are more."""
        return torch.from_numpy(self.index.fmri)

    @property
    def dna_NE(self) -> Tensor:
        """Unit rows of genomes, float32, on the CPU: a view of `index.dna`; of person `index.dna_person` where there are more."""
        return torch.from_numpy(self.index.dna)

    def regions(self, encoder: str | None = None) -> list[str]:
        """Names of the regions of a DNA tower, in the order of axis R; encoder: its name, None for the first tower."""
        return list(self.recorded["dna"][encoder or next(iter(self.recorded["dna"]))]["regions"])

    def embed_scan(
        self,
        bold: str | Path | Sequence[str | Path],
        mask: str | Path | None = None,
        tr_s: float | None = None,
        windows_at_once: int = 1,
    ) -> Tensor:
        """A new person's scan as a row of the shared space, read as in training: all windows that cover it, averaged.

        The network runs in float32; rows of a run that embedded in mixed precision are as near as that precision is.

        Args:
            bold: a 4-D NIfTI on the grid of the training, or several runs of one person.
            mask: brain mask of all of them, on the same grid. None: the voxels that are non-zero in any frame; where the
                training had masks, give one, or the values are normalised over other voxels.
            tr_s: repetition time in seconds, over that of the file.
            windows_at_once: windows in one forward pass; more are faster and take more memory.

        Returns:
            (E,) float32 of unit norm, on the CPU.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a scan on another grid or of fewer frames than a window, or one that `bold.read_bold` refuses.
        """
        paths = [bold] if isinstance(bold, str | Path) else list(bold)
        if not paths:
            raise ValueError("At least one run was expected, got none.\n  where: the query's scan\n  fix: name a NIfTI file.")
        how = {key: self.recorded[key] for key in ("orientation", "normalisation")}
        for path in paths:
            self._require_size(path, read_size(path, self.recorded["orientation"]))
        with tempfile.TemporaryDirectory() as folder:
            stored = [build_run(path, mask, folder, run_id=f"run{i}", tr_s=tr_s, **how) for i, path in enumerate(paths)]
            person = pd.DataFrame({"subject_id": ["query"], "sample_id": ["query"]})
            runs = pd.DataFrame({"subject_id": "query", "store_path": list(map(str, stored))})
            dataset = PeopleDataset(person, runs, {}, self.recorded["window"], seed=0)
            return embed_people(self.model, dataset, self.device, windows_at_once=windows_at_once).fmri_BE[0]

    def genome_features(
        self,
        genotypes: str | Path,
        reference: str | Path,
        regions_bed: str | Path | Sequence[tuple] | None,
        sample: str,
        encoder: FrozenEncoder,
        **policy: Any,
    ) -> Tensor:
        """What the DNA tower reads of a new person, (R, H=2, D) float32; arguments and errors as for `embed_genome`."""
        name = require_encoder(encoder, self.recorded["dna"])
        return genome_features(genotypes, reference, sample, encoder, self.recorded["dna"][name], regions_bed, **policy)

    def embed_genome(
        self,
        genotypes: str | Path,
        reference: str | Path,
        regions_bed: str | Path | Sequence[tuple] | None,
        sample: str,
        encoder: FrozenEncoder,
        **policy: Any,
    ) -> Tensor:
        """A new person's genome as a row of the shared space, read as in training.

        Args:
            genotypes: VCF or BCF with its index.
            reference: FASTA of the training's build, with its index.
            regions_bed: BED, GTF or tuples that hold every region of the training; None: the record's coordinates.
            sample: id of the person in the genotypes.
            encoder: of the training, from `encoders.load_dna_encoder` with the words of the section dna of the config.yaml.
            policy: unphased, missing and settings, and window for a BED or GTF, as of `haplotypes.read_haplotypes`.

        Returns:
            (E,) float32 of unit norm, on the CPU.

        Raises:
            FileNotFoundError: a file or its index is absent.
            ValueError: another encoder, a genome of another build, regions that are not there, or genotypes that
                `haplotypes.read_haplotypes` refuses.
        """
        features_RHD = self.genome_features(genotypes, reference, regions_bed, sample, encoder, **policy)
        return self.embed_features(features_RHD, require_encoder(encoder, self.recorded["dna"]))

    @torch.no_grad()
    def embed_features(self, features_RHD: Tensor, encoder: str | None = None) -> Tensor:
        """Region features of one person, (R, H, D) → (E,) of unit norm, on the CPU; encoder: as for `regions`."""
        name = encoder or next(iter(self.recorded["dna"]))
        return self.model.embed_dna(name, torch.as_tensor(features_RHD)[None].to(self.device))[0].cpu()

    def embed_regions(self, features_RHD: Tensor, weights: Mapping[str, float], encoder: str | None = None) -> Tensor:
        """One region, or an arithmetic of regions, of one person as a row of the shared space; see `query_regions`.

        Args:
            features_RHD: (R, H=2, D) of one person, from `genome_features` or a DNA store.
            weights: by region, such as {"APOE": 1.0, "BDNF": -1.0}.
            encoder: as for `regions`.

        Returns:
            (E,) float32 of unit norm, on the CPU.

        Raises:
            ValueError: see `query_regions.embed_regions`.
        """
        name = encoder or next(iter(self.recorded["dna"]))
        tower, features_RHD = self.model.dna[name], torch.as_tensor(features_RHD)
        return query_regions.embed_regions(tower, self.regions(name), features_RHD, weights).cpu()

    def ask(
        self, z_QE, side: str = "fmri", k: int = 10, where: dict | None = None, names: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Which embedded people fit rows of the space, such as those of `embed_scan`, `embed_genome` or `embed_regions`.

        Args:
            z_QE: (Q, E) or (E,).
            side: what is searched: "fmri", scans that fit a genome or regions; "dna", genomes that fit a scan.
            k, where, names: as of `EmbeddingIndex.query_vectors`.

        Returns:
            The table of `EmbeddingIndex.query_vectors`, the best first.

        Raises:
            ValueError: see `EmbeddingIndex.query_vectors`.
        """
        return self.index.query_vectors(z_QE, side=side, k=k, where=where, names=names)

    def _require_size(self, path: str | Path, size: BoldSize) -> None:
        shape, frames = size
        expected, window = tuple(self.recorded["volume_shape"]), self.recorded["window"]
        if shape != expected:
            raise ValueError(
                f"A scan of {expected} voxels (D, H, W) in orientation {self.recorded['orientation']} was expected, as the model "
                f"was trained on; got {shape}.\n  file: {path}\n  fix: resample the scan to the grid of the training."
            )
        if frames < window:
            raise ValueError(
                f"A scan of at least one window of {window} frames was expected, as the model was trained on; got {frames}.\n"
                f"  file: {path}\n  fix: give a longer run of this person."
            )


def open_alignment(run_folder: str | Path, device: str | torch.device | None = None) -> AlignmentRun:
    """Open a finished run of recipes/contrastive.py for queries.

    Args:
        run_folder: with best.safetensors, embeddings.safetensors, embeddings.parquet and provenance.json.
        device: None is the GPU where there is one.

    Raises:
        FileNotFoundError: the run is not finished, or files were not copied along.
        ValueError: a damaged file, a checkpoint of another kind, a provenance that speaks of another model than the checkpoint,
            embeddings that another model made, or a pair that `retrieval.open_index` refuses.

    Warns:
        UserWarning: embeddings that do not say which model made them; see also `EmbeddingIndex`.
    """
    folder = Path(run_folder)
    weights = read_weights(folder / "best.safetensors", {}, kind="an alignment")
    if absent := [name for name in (*PAIR, "provenance.json") if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"The folder of a finished run was expected, got one without {', '.join(absent)}.\n  file: {folder}\n"
            "  fix: launch recipes/contrastive.py with out= this folder once more: an interrupted run goes on."
        )
    provenance = _read_provenance(folder / "provenance.json")
    if changed := [key for key, value in weights.description.items() if provenance.get(key) != value]:
        raise ValueError(
            "A provenance.json of the model in best.safetensors was expected, got one that differs in "
            f"{', '.join(changed)}.\n  file: {folder}\n  fix: keep the files of one run together; copy them again."
        )
    place = torch.device(device) if device is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = rebuild_alignment(weights.description, weights.state).to(place)
    fingerprint = model_fingerprint(weights.state)
    index = _open_pair(folder, fingerprint)
    return AlignmentRun(folder, model, weights.description, fingerprint, place, index, provenance)


def _read_provenance(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise _damaged(path, error) from error


def _open_pair(folder: Path, fingerprint: str) -> EmbeddingIndex:
    """The index of the run; files that are no safetensors or Parquet at all are told apart from pairs that do not fit."""
    try:
        return open_index(folder, model=fingerprint)
    except SafetensorError as error:
        raise _damaged(folder / PAIR[0], error) from error
    except (ArrowException, OSError) as error:
        raise _damaged(folder / PAIR[1], error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0]
    return ValueError(
        f"Whole files of a finished run were expected, got a damaged file ({reason}).\n  file: {path}\n"
        "  fix: copy the files of the run again."
    )
