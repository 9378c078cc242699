"""Genome builds: lengths of contigs and words of a header flow in; the human build they speak of flows out, as text.

Lengths are those of the primary assembly units of NCBI's assembly reports GCF_000001405.13 (GRCh37), GCF_000001405.26 (GRCh38)
and GCF_009914755.1 (T2T-CHM13v2.0). The mitochondrion is left out: it has one length on all but hg19.
"""

from collections.abc import Mapping, Sequence

CHROMOSOMES = (*map(str, range(1, 23)), "X", "Y")
LENGTHS = {
    "GRCh37": (
        249250621, 243199373, 198022430, 191154276, 180915260, 171115067, 159138663, 146364022, 141213431, 135534747, 135006516,
        133851895, 115169878, 107349540, 102531392, 90354753, 81195210, 78077248, 59128983, 63025520, 48129895, 51304566,
        155270560, 59373566,
    ),
    "GRCh38": (
        248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636, 138394717, 133797422, 135086622,
        133275309, 114364328, 107043718, 101991189, 90338345, 83257441, 80373285, 58617616, 64444167, 46709983, 50818468,
        156040895, 57227415,
    ),
    "T2T-CHM13v2.0": (
        248387328, 242696752, 201105948, 193574945, 182045439, 172126628, 160567428, 146259331, 150617247, 134758134, 135127769,
        133324548, 113566686, 101161492, 99753195, 96330374, 84276897, 80542538, 61707364, 66210255, 45090682, 51324926,
        154259566, 62460029,
    ),
}  # fmt: skip
_BUILD_OF = {(c, n): build for build, lengths in LENGTHS.items() for c, n in zip(CHROMOSOMES, lengths, strict=True)}


def name_build(lengths: Mapping[str, int], words: Sequence[str] = ()) -> str:
    """The build that contigs of such lengths belong to, with what the file says of itself behind it.

    Args:
        lengths: contig, with or without `chr`, → bases.
        words: the file's own, such as `assembly=b37`.

    Returns:
        such as `GRCh37 by contig lengths (assembly=b37)`, or `of unknown build`.
    """
    found = [_BUILD_OF.get((contig.removeprefix("chr"), length)) for contig, length in lengths.items()]
    builds = [build for build in LENGTHS if build in found]
    told = f"{' and '.join(builds)} by contig lengths" if builds else "of unknown build"
    return f"{told} ({', '.join(words)})" if words else told
