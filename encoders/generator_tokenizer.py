"""GENERator's 6-mers: DNA strings flow in, the published token ids flow out; a published vocab.txt is checked against the rule.

Nothing is ever put in front of or behind a sequence here: special tokens are tokens where they stand in the text.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from encoders.published import list_faults

K = 6
ALPHABET = "ATCG"
"""In the order of the ids: AAAAAA, AAAAAT, AAAAAC, AAAAAG, AAAATA, …, GGGGGG; the first base counts most."""

SHARED_SPECIALS = ("<oov>", "<s>", "</s>", "<pad>", "<mask>", "<bog>", "<eog>", "<bok>", "<eok>", "<+>", "<->")
"""Ids 0 to 10 of every published vocabulary; the 21 after them differ between its snapshots, and DNA never becomes one."""

SPECIALS = (
    *SHARED_SPECIALS,
    *("<cds>", "<pseudo>", "<tRNA>", "<rRNA>", "<ncRNA>", "<miscRNA>"),
    *("<mam>", "<vrt>", "<inv>", "<pln>", "<fng>", "<prt>", "<arc>", "<bct>", "<mit>", "<plt>", "<plm>", "<vir>"),
    *("<sp0>", "<sp1>", "<sp2>"),
)
KMERS = tuple("".join(letters) for letters in product(ALPHABET, repeat=K))
VOCABULARY = {token: i for i, token in enumerate((*SPECIALS, *KMERS))}
OOV, BOS = VOCABULARY["<oov>"], VOCABULARY["<s>"]

_PIECES = re.compile("|".join(map(re.escape, SPECIALS)) + rf"|[A-Z]{{{K}}}|[A-Z]{{1,{K - 1}}}|.", re.DOTALL)
_PLACES = len(ALPHABET) ** np.arange(K)[::-1]
_DIGIT_OF_BYTE = np.array([ALPHABET.find(chr(byte)) for byte in range(128)])


def tokenize(text: str) -> list[str]:
    """The published tokenizer's pieces: a special token; else 6 capitals; else a run of 1 to 5; else one character.

    Left to right and greedy, and so a special token starts the frame anew. Lower case stays: each such letter is a piece.
    """
    return _PIECES.findall(text)


def encode(text: str) -> list[int]:
    """The ids of `tokenize`; what is in no vocabulary (an N in a 6-mer, a short tail, lower case) is <oov>, id 0."""
    return [VOCABULARY.get(token, OOV) for token in tokenize(text)]


def kmer_ids(sequences: Sequence[str]) -> np.ndarray:
    """Upper-case ASCII strings of one length L → (n, L / 6) int64, as `encode` gives, at the speed of a table.

    A 6-mer with any letter outside ACGT is <oov>; no other token can be, since L is a multiple of 6.

    Raises:
        ValueError: lengths that differ, or that would leave a short tail.
    """
    lengths = {len(sequence) for sequence in sequences}
    if len(lengths) > 1 or any(length % K for length in lengths):
        raise ValueError(
            f"Sequences to cut into {K}-mers must have one length, a multiple of {K}; got {sorted(lengths)} bases.\n"
            "  fix: cut the frame out first, as DNAEncoder.embed does."
        )
    letters = np.frombuffer("".join(sequences).encode("ascii"), dtype=np.uint8)
    digits = _DIGIT_OF_BYTE[letters].reshape(len(sequences), -1, K)
    return np.where((digits < 0).any(axis=2), OOV, len(SPECIALS) + digits @ _PLACES)


def read_vocabulary(path: Path) -> dict[str, int]:
    """A published vocab.txt → token to id. Each line is `token id`, or in the older form a token whose id is its line's number.

    Raises:
        FileNotFoundError: no file there.
        ValueError: a line of neither form or of the other one; an id or token given twice; tokens that every published
            vocabulary has, the 4096 6-mers and the first 11 special tokens, that are missing or have other ids (listed).
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"GENERator's vocab.txt must lie beside its weights; there is none.\n"
            f"  file: {path}\n  fix: copy the published one there."
        )
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    vocabulary, faults = _parse(lines)
    if not faults:
        faults = _rule_faults(vocabulary)
    if faults:
        raise ValueError(
            f"vocab.txt must give GENERator's tokens their published ids; {list_faults(faults)}\n"
            f"  file: {path}\n  fix: use the vocab.txt that was published with these weights."
        )
    return vocabulary


def _parse(lines: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Token to id, and what is wrong with which line (counted from 1)."""
    rows = [line.split() for line in lines]
    fields = 2 if rows and len(rows[0]) == 2 else 1
    vocabulary: dict[str, int] = {}
    faults, taken = [], set()
    for number, row in enumerate(rows, start=1):
        if len(row) != fields or (fields == 2 and not row[1].isdecimal()):
            faults.append(
                f"line {number} is {lines[number - 1]!r:.60}, not {'a token and its id' if fields == 2 else 'one token'}"
            )
            continue
        token, token_id = row[0], int(row[1]) if fields == 2 else number - 1
        if token in vocabulary or token_id in taken:
            faults.append(f"line {number} gives {token} the id {token_id}; one of the two was there before")
        vocabulary[token] = token_id
        taken.add(token_id)
    return vocabulary, faults


def _rule_faults(vocabulary: Mapping[str, int]) -> list[str]:
    """The tokens that every published vocabulary has, where this one has them not or elsewhere."""
    wanted = {token: VOCABULARY[token] for token in (*SHARED_SPECIALS, *KMERS)}
    return [
        f"{token} has id {vocabulary[token]}, not {i}" if token in vocabulary else f"{token} is missing, id {i} expected"
        for token, i in wanted.items()
        if token not in vocabulary or vocabulary[token] != i
    ]
