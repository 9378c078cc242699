"""The variant table of a PGEN: a `.pvar`, plain or zstd-compressed, flows in once; its variants, searchable by region, flow out.

It is read as a stream. What stays in memory is 20 bytes a variant (4 for its position, its end, and the place of each text) and
the letters of its ID, REF and ALT (about 13 for an rs number and a SNP); 1 byte more where any REF is provisional, 8 more where
any site has several ALT alleles. INFO, QUAL and FILTER are let go.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pysam

from brainmt_align.data.genotype_records import find_stop
from brainmt_align.data.genotypes_vcf import build_words

BLOCK_BYTES = 2**22  # of text that are parsed at once; a line has to fit
COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT")
HEADERLESS = {  # number of columns → names: the layout of a .bim, with or without centimorgans
    5: ["#CHROM", "ID", "POS", "ALT", "REF"],
    6: ["#CHROM", "ID", "CM", "POS", "ALT", "REF"],
}


class Variants(NamedTuple):
    """All variants of a file, in its order.

    Attributes:
        rows: contig → (first, last + 1) of its rows.
        lengths: contig → bases, where the header says them; under the names that the rows have.
        declared: contigs of the header that no row has, under neither spelling.
        build_words: `assembly=` of contigs and the file name of `##reference`.
        positions, stops: (variants,) int32, 0-based half-open; stops reach INFO/END.
        texts: (variants,) ID, REF and ALT as they are written, ALT alleles joined by commas.
        allele_offsets: (variants + 1,) uint64, running sum of the numbers of alleles; None where every site has two.
        provisional: (variants,) bool, INFO has PR: nobody knows whether REF is the reference's; None where no variant has it.
    """

    rows: dict[str, tuple[int, int]]
    lengths: dict[str, int]
    declared: list[str]
    build_words: list[str]
    positions: np.ndarray
    stops: np.ndarray
    texts: pa.Table
    allele_offsets: np.ndarray | None
    provisional: np.ndarray | None


class Text(NamedTuple):
    """ID, REF and ALT alleles of some variants, as `alleles.Alleles` has them."""

    ids: list[str]
    refs: list[str]
    alts: list[tuple[str, ...]]


class _Batch(NamedTuple):
    """Consecutive variants; `runs` are contigs with the row behind their last one, counted from the batch's first."""

    runs: list[tuple[str, int]]
    positions: np.ndarray
    stops: np.ndarray
    num_alleles: np.ndarray
    provisional: np.ndarray
    texts: pa.Table  # ID, REF, ALT


def read_pvar(path: Path) -> Variants:
    """Read a `.pvar` or `.pvar.zst`.

    Args:
        path: tab-separated; with the header line `#CHROM POS ID REF ALT …`, or without any and in the columns of a `.bim`.

    Raises:
        ValueError: a damaged or cut file, absent columns, positions that are no whole numbers, variants that are not sorted.

    Reference: the column and header rules of PLINK 2's file formats, https://www.cog-genomics.org/plink/2.0/formats#pvar
    """
    try:
        with pa.input_stream(str(path), compression="zstd" if path.suffix == ".zst" else None) as source:
            text = io.BufferedReader(source, buffer_size=2**20)
            header = []
            while text.peek(1)[:1] == b"#":
                header.append(text.readline().decode(errors="replace").rstrip("\r\n"))
            names = _name_columns(header, text.peek(1).split(b"\n", 1)[0], path)
            batches = [_digest(batch, path) for batch in _stream(text, names)]
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"Genotypes: a tab-separated table of variants is expected, got one that cannot be read to its end ({error}).\n"
            f"  file: {path}\n  fix: copy it again, or write it anew with `plink2 --make-just-pvar`."
        ) from error
    positions = np.concatenate([batch.positions for batch in batches])
    rows = _find_rows(batches, positions, path)
    declared = pysam.VariantHeader()
    for line in header:
        if line.startswith(("##contig=", "##reference=")):
            declared.add_line(line)
    lengths = {contig.name: contig.length for contig in declared.contigs.values() if contig.length}
    num_alleles = np.concatenate([batch.num_alleles for batch in batches])
    provisional = np.concatenate([batch.provisional for batch in batches])
    held = {_bare(name) for name in rows}
    return Variants(
        rows=rows,
        lengths={n: lengths[s] for n in rows for s in (f"chr{_bare(n)}", _bare(n), n) if s in lengths}
        | {name: length for name, length in lengths.items() if _bare(name) not in held},
        declared=[name for name in declared.contigs if _bare(name) not in held],
        build_words=build_words(declared),
        positions=positions,
        stops=np.concatenate([batch.stops for batch in batches]),
        texts=pa.concat_tables([batch.texts for batch in batches]),
        allele_offsets=np.concatenate([[0], np.cumsum(num_alleles)]).astype(np.uintp) if (num_alleles > 2).any() else None,
        provisional=provisional if provisional.any() else None,
    )


def find_overlapping(variants: Variants, contig: str, start: int, end: int) -> np.ndarray:
    """Rows (uint32, ascending) of the variants of a contig that reach into [start, end), wherever they begin."""
    first, last = variants.rows.get(contig, (0, 0))
    last = first + int(np.searchsorted(variants.positions[first:last], end))
    return (first + np.flatnonzero(variants.stops[first:last] > start)).astype(np.uint32)


def take_text(variants: Variants, rows: np.ndarray) -> Text:
    """The text of some rows (ascending, as of `find_overlapping`)."""
    if not len(rows):
        return Text([], [], [])
    first = int(rows[0])
    part = variants.texts.slice(first, int(rows[-1]) + 1 - first).take(pa.array(rows - np.uint32(first)))
    alts = [() if alt == "." else tuple(alt.upper().split(",")) for alt in part["ALT"].to_pylist()]
    return Text(part["ID"].to_pylist(), [ref.upper() for ref in part["REF"].to_pylist()], alts)


def _bare(contig: str) -> str:
    return contig.removeprefix("chr")


def _name_columns(header: list[str], first: bytes, path: Path) -> list[str]:
    """Names of all columns: those of the `#CHROM` line or, without it, of a `.bim`.

    Raises:
        ValueError: neither fits.
    """
    if header and header[-1].startswith("#CHROM"):
        names = header[-1].split("\t")
    else:
        names = HEADERLESS.get(first.count(b"\t") + 1, [])
    if absent := [name for name in COLUMNS if name not in names]:
        raise ValueError(
            f"Genotypes: tab-separated columns {', '.join(COLUMNS)} are expected, or without a header line the 5 or 6 of a .bim, "
            f"got a table without {', '.join(absent)}.\n  file: {path}\n  fix: write it anew with `plink2 --make-just-pvar`."
        )
    return names


def _stream(text: io.BufferedReader, names: list[str]) -> csv.CSVStreamingReader:
    wanted = [name for name in names if name in (*COLUMNS, "INFO")]
    return csv.open_csv(
        text,
        csv.ReadOptions(column_names=names, block_size=BLOCK_BYTES, use_threads=False),
        csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False),
        csv.ConvertOptions(
            include_columns=wanted,
            column_types={name: pa.int32() if name == "POS" else pa.string() for name in wanted},
            null_values=[],
            strings_can_be_null=False,
        ),
    )


def _digest(batch: pa.RecordBatch, path: Path) -> _Batch:
    """What is kept of consecutive lines."""
    runs = pc.run_end_encode(batch["#CHROM"])
    positions = batch["POS"].to_numpy() - 1
    stops = positions + pc.binary_length(batch["REF"]).to_numpy()
    provisional = np.zeros(len(positions), dtype=bool)
    if "INFO" in batch.schema.names:
        provisional = _holds(batch["INFO"], r"(?:^|;)PR(?:;|$)")
        for row in np.flatnonzero(_holds(batch["INFO"], r"(?:^|;)END=")).tolist():
            stops[row] = find_stop(int(positions[row]), int(stops[row] - positions[row]), batch["INFO"][row].as_py())
    return _Batch(
        list(zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True)),
        positions,
        stops,
        pc.count_substring(batch["ALT"], ",").to_numpy() + 2,
        provisional,
        pa.Table.from_batches([batch.select(["ID", "REF", "ALT"])]),
    )


def _holds(texts: pa.Array, pattern: str) -> np.ndarray:
    return pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)


def _find_rows(batches: list[_Batch], positions: np.ndarray, path: Path) -> dict[str, tuple[int, int]]:
    """Contig → its rows.

    Raises:
        ValueError: positions descend within a contig, or a contig comes twice.
    """
    rows: dict[str, tuple[int, int]] = {}
    begin = offset = 0
    last = None
    for batch in batches:
        for contig, stop in batch.runs:
            unsorted = contig in rows and contig != last
            first = rows[contig][0] if contig in rows else begin
            rows[contig] = first, offset + stop
            if unsorted:
                raise _not_sorted(f"contig {contig} once more behind {last}", path)
            begin, last = offset + stop, contig
        offset += len(batch.positions)
    for contig, (first, stop) in rows.items():
        descents = np.flatnonzero(np.diff(positions[first:stop]) < 0)
        if len(descents):
            at = first + int(descents[0])
            raise _not_sorted(f"{contig}:{positions[at + 1] + 1} behind {contig}:{positions[at] + 1}", path)
    return rows


def _not_sorted(what: str, path: Path) -> ValueError:
    return ValueError(
        f"Genotypes: variants sorted by contig and position are expected, got {what}.\n"
        f"  file: {path}\n  fix: plink2 --pfile NAME --sort-vars --make-pgen."
    )
