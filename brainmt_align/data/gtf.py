"""GTF: an annotation of GENCODE or Ensembl and a region shape flow in; the genes to read, with their exons, flow out.

A file is read once, in blocks, and what is not of use is dropped block by block; the genes of the last files stay in memory, so
that checks before the reading cost nothing again.
"""

import functools
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from brainmt_align.data.region_shapes import RegionShape, Spans, merge_spans, refuse_unknown
from brainmt_align.listing import list_faults, some

logger = logging.getLogger(__name__)

COLUMNS = ("contig", "source", "feature", "start", "end", "score", "strand", "frame", "attributes")
READ = ["contig", "feature", "start", "end", "strand", "attributes"]
BLOCK = 1 << 22  # bytes that are parsed at once
GZIP = b"\x1f\x8b"
CANONICAL = ("Ensembl_canonical", "MANE_Select")  # tags, the first that a gene has counts
VERSION = re.compile(r"\.\d+")
SUFFIXES = re.compile(r"\.(gtf|gff|gff2|gff3)(\.gz|\.bgz)?$", re.IGNORECASE)


class Gene(NamedTuple):
    """One gene: 0-based half-open, its name its own in the file, strand "+" or "-"; exons only where they were asked for."""

    contig: str
    start: int
    end: int
    name: str
    strand: str
    exons: Spans = ()


class _Lines(NamedTuple):
    """What a file holds: columns contig, start (0-based), end, strand, gene_id, and of genes name and type.

    Exons and transcripts have transcript_id, is_exon and rank instead: the number of their tag in CANONICAL, or one more.
    """

    genes: pd.DataFrame
    pieces: pd.DataFrame | None


def is_gtf(path: Path) -> bool:
    """Whether a file is a gene annotation by its name."""
    return SUFFIXES.search(path.name) is not None


def read_genes(path: str | Path, shape: RegionShape) -> tuple[Gene, ...]:
    """The genes that a shape names, in its order; in that of the file where it names none.

    A name that several genes of the file bear, as those of the pseudoautosomal regions, becomes `NAME|ID` for each of them, and
    asked for, it stands for all of them. Ids may lack their version.

    Args:
        path: GTF, plain or gzipped: lines of genes (and for "exons" of exons) with gene_id, gene_name where they have one,
            gene_type or gene_biotype, transcript_id and tags.
        shape: kind, genes and gene_types count here, flanks do not.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged or empty file, GFF3, faulty lines, genes or types that the file lacks, no gene left, genes
            without exons.

    Reference:
        The columns and the attributes are described at gencodegenes.org/pages/data_format.html.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Regions: a GTF is expected, got no such file.\n  file: {path}\n  fix: set data.regions.")
    state = path.stat()
    wanted = None if shape.genes is None else tuple(shape.genes)
    return _read_genes(path, (state.st_mtime_ns, state.st_size), shape.kind == "exons", wanted, tuple(shape.gene_types))


@functools.lru_cache(maxsize=2)
def _read_genes(
    path: Path, state: tuple[int, int], with_exons: bool, wanted: tuple[str, ...] | None, types: tuple[str, ...]
) -> tuple[Gene, ...]:
    """See `read_genes`; state changes with the file."""
    lines = _read_lines(path, with_exons)
    genes = _name_apart(lines.genes)
    genes = _of_types(genes, types, path) if wanted is None else _of_names(genes, wanted, path)
    shared = genes.loc[genes["name"] != genes["spelled"], "name"].tolist()
    if shared:
        logger.warning("%d genes share their names with others and are told apart by ids: %s.", len(shared), some(shared))
    exons = {} if lines.pieces is None else _exons(genes, lines.pieces, path)
    rows = genes[["contig", "start", "end", "name", "strand", "gene_id"]].itertuples(index=False, name=None)
    return tuple(Gene(*row, exons.get(gene_id, ())) for *row, gene_id in rows)


def _read_lines(path: Path, with_exons: bool) -> _Lines:
    """The lines of genes, of use or not, and those of exons and transcripts where they are asked for; checked."""
    total = 0
    genes, pieces = [], []
    try:
        for block in _blocks(path):
            total += len(block)
            genes.append(_gene_lines(block.filter(pc.equal(block["feature"], "gene"))))
            if with_exons:
                features = pa.array(["exon", "transcript"])
                pieces.append(_piece_lines(block.filter(pc.is_in(block["feature"], value_set=features))))
    except (OSError, pa.ArrowInvalid) as error:
        empty = "Empty CSV" in str(error)
        fix = "give one with genes" if empty else "copy it again; it is cut short or damaged, or its text is not UTF-8"
        _refuse("nothing" if empty else str(error).splitlines()[0].rstrip("."), path, fix)
    if not any(map(len, genes)):
        _refuse(f"{total} lines and no gene among them", path, "give GENCODE's or Ensembl's, whose genes have lines of their own")
    table = _as_frame(genes)
    _require_sound(table, path)
    return _Lines(table, _as_frame(pieces) if with_exons else None)


def _blocks(path: Path) -> Iterator[pa.Table]:
    """The file's lines, some at a time, all columns as text; comments passed over."""
    faults: list[str] = []

    def pass_over(row: csv.InvalidRow) -> str:
        if row.text.startswith("##gff-version") and row.text.split()[-1].startswith("3"):
            faults.append("GFF3")
        elif not row.text.startswith("#"):
            faults.append(f"{row.actual_columns} columns in `{row.text[:60]}`")
        return "skip"

    with path.open("rb") as file:
        compression = "gzip" if file.read(2) == GZIP else None
    with pa.input_stream(path, compression=compression) as stream:
        reader = csv.open_csv(
            stream,
            csv.ReadOptions(column_names=COLUMNS, block_size=BLOCK),
            csv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=pass_over),
            csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()), include_columns=READ, strings_can_be_null=False),
        )
        for batch in reader:
            _refuse_faults(faults, path)
            yield pa.Table.from_batches([batch])
        _refuse_faults(faults, path)


def _gene_lines(lines: pa.Table) -> pa.Table:
    """Places, id, name and type of genes; null where a line lacks it."""
    attributes = lines["attributes"]
    names = pc.coalesce(_attribute(attributes, "gene_name"), _attribute(attributes, "gene_id"))
    types = pc.coalesce(_attribute(attributes, "gene_type|gene_biotype"), pa.scalar(""))
    return pa.table({**_places(lines), "spelled": names, "type": types, "attributes": attributes})


def _piece_lines(lines: pa.Table) -> pa.Table:
    """Places, ids and the rank of exons and transcripts, texts that repeat as categories."""
    attributes = lines["attributes"]
    rank: pa.Scalar | pa.ChunkedArray = pa.scalar(len(CANONICAL), pa.int8())
    for number, tag in reversed(list(enumerate(CANONICAL))):
        rank = pc.if_else(pc.match_substring_regex(attributes, f'tag "{tag}"'), pa.scalar(number, pa.int8()), rank)
    columns = _places(lines) | {"transcript_id": _attribute(attributes, "transcript_id")}
    texts = {name: pc.dictionary_encode(columns.pop(name)) for name in ("contig", "strand", "gene_id", "transcript_id")}
    return pa.table({**columns, **texts, "is_exon": pc.equal(lines["feature"], "exon"), "rank": rank})


def _places(lines: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Contig, 0-based start, end, strand and gene id."""
    start, end = (pc.cast(lines[name], pa.int64()) for name in ("start", "end"))
    gene_id = _attribute(lines["attributes"], "gene_id")
    return {
        "contig": lines["contig"],
        "start": pc.subtract(start, 1),
        "end": end,
        "strand": lines["strand"],
        "gene_id": gene_id,
    }


def _attribute(attributes: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    """The value of the first attribute of that name, null where there is none or an empty one."""
    found = pc.extract_regex(attributes, rf'(?:^|[; ])(?:{key}) "?(?P<value>[^";]+)')
    return pc.struct_field(found, "value")


def _as_frame(tables: Sequence[pa.Table]) -> pd.DataFrame:
    return pa.concat_tables(tables).unify_dictionaries().to_pandas()


def _require_sound(genes: pd.DataFrame, path: Path) -> None:
    """Every gene has an id of its own, a place and a strand."""
    without = genes["gene_id"].isna()
    if without.any():
        first = genes.loc[without, "attributes"].iloc[0]
        if re.search(r"(^|;)\s*\w+=", first):
            _refuse_faults(["GFF3"], path)
        _refuse(f"{without.sum()} genes without gene_id, e.g. `{first[:60]}`", path, 'give one with gene_id "…" in each line')
    faults = [
        f"gene {row.gene_id}: {row.contig}:{row.start + 1}-{row.end} on strand {row.strand}"
        for row in genes[(genes["start"] < 0) | (genes["start"] >= genes["end"]) | ~genes["strand"].isin(["+", "-"])].itertuples()
    ]
    faults += [f"gene {gene_id}: in more than one line" for gene_id in genes.loc[genes["gene_id"].duplicated(), "gene_id"]]
    if faults:
        _refuse(f"{len(faults)} faulty of {len(genes)} genes", path, "correct these lines", faults)


def _name_apart(genes: pd.DataFrame) -> pd.DataFrame:
    """With a column `name` that no two of them share."""
    shared = genes["spelled"].duplicated(keep=False)
    return genes.assign(name=genes["spelled"].where(~shared, genes["spelled"] + "|" + genes["gene_id"]))


def _of_types(genes: pd.DataFrame, types: tuple[str, ...], path: Path) -> pd.DataFrame:
    """Those of these types; all where no type is named."""
    counts = Counter(genes["type"])
    if absent := [each for each in types if each not in counts]:
        refuse_unknown(absent, [each for each, _ in counts.most_common() if each], "gene_types", str(path))
    return genes[genes["type"].isin(types)] if types else genes


def _of_names(genes: pd.DataFrame, wanted: tuple[str, ...], path: Path) -> pd.DataFrame:
    """Those of these names or ids, in this order, each once."""
    rows_of: dict[str, list[int]] = {}
    for row, spellings in enumerate(zip(genes["spelled"], genes["gene_id"], genes["name"], strict=True)):
        for spelling in {*spellings, VERSION.sub("", spellings[1])}:
            rows_of.setdefault(spelling, []).append(row)
    if absent := [name for name in wanted if name not in rows_of]:
        refuse_unknown(absent, list(rows_of), "genes", str(path))
    return genes.iloc[list(dict.fromkeys(row for name in wanted for row in rows_of[name]))]


def _exons(genes: pd.DataFrame, pieces: pd.DataFrame, path: Path) -> dict[str, Spans]:
    """By gene id the exons of its best tagged transcripts, joined where they overlap."""
    pieces = pieces[pieces["gene_id"].isin(genes["gene_id"])]
    transcripts = pieces.groupby(["gene_id", "transcript_id"], observed=True, sort=False, dropna=False)
    pieces = pieces.assign(rank=transcripts["rank"].transform("min"))
    best = pieces.groupby("gene_id", observed=True, sort=False)["rank"].transform("min")
    exons = pieces[pieces["is_exon"] & (pieces["rank"] == best)]
    spans_of: dict[str, list[tuple[int, int]]] = {}
    for gene_id, *span in zip(exons["gene_id"], exons["start"].tolist(), exons["end"].tolist(), strict=True):
        spans_of.setdefault(gene_id, []).append(tuple(span))
    own = genes.set_index("gene_id")[["contig", "start", "end"]].loc[exons["gene_id"].astype(str)]
    inside = exons["contig"].astype(str).to_numpy() == own["contig"].to_numpy()
    inside &= (exons["start"].to_numpy() >= own["start"].to_numpy()) & (exons["end"].to_numpy() <= own["end"].to_numpy())
    inside &= exons["start"].to_numpy() < exons["end"].to_numpy()
    faults = [f"gene {gene_id}: exons outside the gene" for gene_id in dict.fromkeys(exons.loc[~inside, "gene_id"])]
    named = zip(genes["gene_id"], genes["spelled"], strict=True)
    faults += [f"gene {name} ({gene_id}): no exon" for gene_id, name in named if gene_id not in spans_of]
    if faults:
        _refuse(f"{len(faults)} of {len(genes)} genes with other exons", path, "correct these genes, or set data.genes", faults)
    return {gene_id: merge_spans(spans) for gene_id, spans in spans_of.items()}


def _refuse_faults(faults: list[str], path: Path) -> None:
    """Refuse lines that are not of a GTF."""
    if "GFF3" in faults:
        _refuse("GFF3", path, "give the GTF of the same release, or convert it: gffread FILE.gff3 -T -o FILE.gtf")
    if faults:
        _refuse(f"{len(faults)} other lines", path, "give a whole GTF; this one is cut short or of another format", faults)


def _refuse(got: str, path: Path, fix: str, faults: Sequence[str] = ()) -> NoReturn:
    raise ValueError(
        f"Regions: a GTF (9 columns between tabs, genes with gene_id and strand, exons inside them) is expected, got: {got}.\n"
        f"{list_faults(faults)}  file: {path}\n  fix: {fix}."
    )
