"""A new genome as a query: its genotypes, a reference and what a run recorded of its regions flow in; its features flow out."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from brainmt_align.data import dna_store
from brainmt_align.data.dna_embedding import FrozenEncoder
from brainmt_align.data.haplotype_sources import HaplotypeSources
from brainmt_align.data.haplotypes import read_haplotypes
from brainmt_align.data.regions import Region, read_regions
from brainmt_align.listing import list_faults

SHOWN_HASH = 12


def recorded_regions(places: Mapping[str, str]) -> list[Region]:
    """The regions that a checkpoint was trained on, in its order.

    Args:
        places: by name "contig:start-end sha256", 0-based half-open, as the description beside the weights holds it.
    """
    regions = []
    for name, place in places.items():
        contig, _, span = place.partition(" ")[0].rpartition(":")
        start, _, end = span.partition("-")
        regions.append(Region(contig, int(start), int(end), name))
    return regions


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
        genotypes: VCF or BCF with its index.
        reference: FASTA of the build that the training was on, with its index.
        sample: id of the person in the genotypes.
        encoder: of the training, see `require_encoder`.
        store: what the description beside the weights says of this encoder: pooling, strands, overlap, regions.
        regions: BED or tuples that hold every region of the training, further ones are left out; None: those of the record.
        policies: unphased and missing, and window for a BED, as of `haplotypes.read_haplotypes`.

    Returns:
        (R, H=2, D) float32, the regions in the order of the training.

    Raises:
        FileNotFoundError: a file or its index is absent.
        ValueError: a region of the training that is not there, lies elsewhere or has another reference sequence (another
            build); whatever `read_haplotypes` and `dna_store.build` refuse.
    """
    wanted = _choose_regions(regions, store["regions"])
    _require_build(genotypes, reference, wanted, sample, store["regions"], policies.get("window"))
    how = {"pooling": store["pooling"], "strands": store["strands"]}
    how |= {"overlap": int(store["overlap"])} if store.get("overlap") else {}
    haplotypes = read_haplotypes(genotypes, reference, wanted, [sample], **policies)
    with tempfile.TemporaryDirectory() as folder:
        filled = dna_store.build(haplotypes, encoder, folder, **how, progress=False)
        opened = dna_store.open_store(filled.folder, [region.name for region in wanted])
        return torch.from_numpy(opened.features([sample])[0])


def _choose_regions(regions: str | Path | Sequence[tuple] | None, places: Mapping[str, str]) -> list[Region]:
    """The training's regions, in its order, as the query places them."""
    if regions is None:
        return recorded_regions(places)
    placed = {region.name: region for region in read_regions(regions)}
    if absent := [name for name in places if name not in placed]:
        raise ValueError(
            f"All {len(places)} regions of the training were expected, got a list without {len(absent)} of them:\n"
            f"{list_faults(absent)}  where: the query's regions ({', '.join(list(placed)[:3])} …)\n"
            "  fix: name them as in the training's BED, or leave the regions out, and those of the training are taken."
        )
    return [placed[name] for name in places]


def _require_build(
    genotypes: str | Path,
    reference: str | Path,
    wanted: list[Region],
    sample: str,
    places: Mapping[str, str],
    window: int | None,
) -> None:
    """Refuse, before anything is embedded, regions that lie elsewhere or spell another reference; contigs with or without chr."""
    faults = []
    with HaplotypeSources(genotypes, reference, wanted, [sample], window) as sources:
        for region in sources.regions:
            bases = sources.read(region).bases[: region.end - region.start]
            place = f"{region.contig}:{region.start}-{region.end}"
            digest = hashlib.sha256(bases.encode()).hexdigest()
            expected_place, _, expected_digest = places[region.name].partition(" ")
            if (place.removeprefix("chr"), digest) != (expected_place.removeprefix("chr"), expected_digest):
                faults.append(
                    f"region {region.name}: expected {expected_place} of sequence {expected_digest[:SHOWN_HASH]}, "
                    f"got {place} of {digest[:SHOWN_HASH]}"
                )
        builds = sources.builds
    if faults:
        raise ValueError(
            "A genome of the build that the model was trained on was expected, got another reference sequence or other "
            f"coordinates in {len(faults)} of {len(wanted)} regions:\n{list_faults(faults)}"
            f"  where: {builds}\n  file: {genotypes}, {reference}\n"
            "  fix: lift the genotypes over to the training's build, and give its FASTA and regions (data.reference and "
            "data.regions of the config.yaml beside the checkpoint)."
        )
