"""A new genome as a query: its genotypes, a reference and what a run recorded of its regions flow in; its features flow out."""

import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainmt_align.data import dna_store
from brainmt_align.data.dna_embedding import FrozenEncoder
from brainmt_align.data.haplotype_settings import DEFAULTS
from brainmt_align.data.haplotype_sources import HaplotypeSources
from brainmt_align.data.haplotypes import read_haplotypes, spell_reference
from brainmt_align.data.region_shapes import WHOLE, RegionShape
from brainmt_align.data.regions import Region, read_place, read_regions
from brainmt_align.data.stored_dna import USUAL
from brainmt_align.listing import list_faults

logger = logging.getLogger(__name__)

SHOWN_HASH = 12


def recorded_regions(places: Mapping[str, str]) -> list[Region]:
    """The regions that a checkpoint was trained on, in its order.

    Args:
        places: by name `Region.place` and, behind a blank, the sequence's SHA-256, as the description beside the weights holds
            them.
    """
    return [read_place(name, place.partition(" ")[0]) for name, place in places.items()]


def require_encoder(encoder: FrozenEncoder, stores: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of the DNA tower that reads this encoder's vectors.

    Args:
        encoder: as `encoders.load_dna_encoder` returns it.
        stores: `dna` of a checkpoint's description, by the name of the encoder.

    Raises:
        ValueError: none of the towers was trained on this encoder: other weights, layer or precision.
    """
    for name, store in stores.items():
        if store["fingerprint"] == encoder.fingerprint:
            return name
    known = "; ".join(f"{store['description']} [{store['fingerprint'][:SHOWN_HASH]}]" for store in stores.values())
    raise ValueError(
        f"The DNA encoder of the training was expected: {known}; got {encoder.description} "
        f"[{encoder.fingerprint[:SHOWN_HASH]}].\n  where: the query's DNA encoder\n"
        "  fix: load it as the section dna of the config.yaml beside the checkpoint says."
    )


def genome_features(
    genotypes: str | Path,
    reference: str | Path,
    sample: str,
    encoder: FrozenEncoder,
    store: Mapping[str, Any],
    regions: str | Path | Sequence[tuple] | None = None,
    **policies: Any,
) -> Tensor:
    """One person's region embeddings minus the reference's, made as the DNA store of the training was.

    Args:
        genotypes: see `genotypes.open_genotypes`.
        reference: FASTA of the build that the training was on, with its index.
        sample: id of the person in the genotypes.
        encoder: of the training, see `require_encoder`.
        store: what the description beside the weights says of this encoder: pooling, strands, overlap, symbolic, mismatch,
            undecided and oriented, regions, and sites that are pooled at, which then count instead of those of the person's own
            file.
        regions: BED, GTF or tuples that hold every region of the training, further ones are left out; None: those of the
            record.
        policies: unphased, missing and settings, and window for a BED or GTF, as of `haplotypes.read_haplotypes`. What the
            record says counts before the settings.

    Returns:
        (R, H=2, D) float32, the regions in the order of the training.

    Raises:
        FileNotFoundError: a file or its index is absent.
        ValueError: a region of the training that is not there, lies elsewhere or has another reference sequence (another
            build); whatever `read_haplotypes` and `dna_store.build` refuse.
    """
    places, settings = store["regions"], policies.pop("settings", DEFAULTS)
    wanted, shape = (recorded_regions(places), WHOLE) if regions is None else (regions, _choose(regions, places, settings.shape))
    made = {key: store.get(key, usual) for key, usual in USUAL.items()}
    policies["settings"] = settings._replace(shape=shape, **made)
    if made["undecided"] == "skip":
        logger.warning(
            "The training left out records of which nothing told the REF, most indels; genomes that tell it keep theirs."
        )
    _require_build(genotypes, reference, wanted, sample, places, policies)
    how = {"pooling": store["pooling"], "strands": store["strands"]}
    how |= {"overlap": int(store["overlap"])} if store.get("overlap") else {}
    read = read_haplotypes(genotypes, reference, wanted, [sample], **policies)
    sites = {name: np.array(at, dtype=np.int64) for name, at in store.get("sites", {}).items()}
    haplotypes = (region._replace(sites=sites.get(region.name, region.sites)) for region in read)
    with tempfile.TemporaryDirectory() as folder:
        filled = dna_store.build(haplotypes, encoder, folder, **how, progress=False)
        opened = dna_store.open_store(filled.folder, list(places))
        return torch.from_numpy(opened.features([sample])[0])


def _choose(regions: str | Path | Sequence[tuple], places: Mapping[str, str], shape: RegionShape) -> RegionShape:
    """The shape that reads the training's regions, in its order, of all that the query's list holds."""
    placed = {region.name for region in read_regions(regions, shape=RegionShape(gene_types=()))}
    if absent := [name for name in places if name not in placed]:
        raise ValueError(
            f"All {len(places)} regions of the training were expected, got a list without {len(absent)} of them:\n"
            f"{list_faults(absent)}  where: the query's regions ({', '.join(sorted(placed)[:3])} …)\n"
            "  fix: name them as in the training's BED or GTF, or leave the regions out, and those of the training are taken."
        )
    return shape._replace(genes=tuple(places))


def _require_build(
    genotypes: str | Path,
    reference: str | Path,
    wanted: str | Path | Sequence[tuple],
    sample: str,
    places: Mapping[str, str],
    policies: Mapping[str, Any],
) -> None:
    """Refuse, before anything is embedded, regions that lie elsewhere or spell another reference; contigs with or without chr."""
    faults = []
    settings = policies["settings"]
    files = genotypes, reference, wanted, [sample], policies.get("window"), settings.options, settings.own_shape
    with HaplotypeSources(*files) as sources:
        for region in sources.regions:
            digest = hashlib.sha256(spell_reference(region, sources, settings.oriented).encode()).hexdigest()
            expected_place, _, expected_digest = places[region.name].partition(" ")
            if (_span(region), digest) != (_span(read_place(region.name, expected_place)), expected_digest):
                faults.append(
                    f"region {region.name}: expected {expected_place} of sequence {expected_digest[:SHOWN_HASH]}, "
                    f"got {region.place} of {digest[:SHOWN_HASH]}"
                )
        builds = sources.builds
    if faults:
        raise ValueError(
            "A genome of the build that the model was trained on was expected, got another reference sequence or other "
            f"coordinates in {len(faults)} of {len(places)} regions:\n{list_faults(faults)}"
            f"  where: {builds}\n  file: {genotypes}, {reference}\n"
            "  fix: lift the genotypes over to the training's build, and give its FASTA and regions (data.reference and "
            "data.regions of the config.yaml beside the checkpoint)."
        )


def _span(region: Region) -> tuple[str, int, int]:
    """Where a region lies; its strand and parts speak by its sequence."""
    return region.contig.removeprefix("chr"), region.start, region.end
