"""The contract of a frozen DNA encoder: DNA strings flow in, one float32 vector a string (or one a token) flows out.

Strands and pooling are decided here, once; a subclass only says what its network makes of strings of one length.
"""

import hashlib
import json
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

IUPAC_DNA = "ACGTRYSWKMBDHVN"
_COMPLEMENT = str.maketrans(IUPAC_DNA + IUPAC_DNA.lower(), "TGCAYRSWMKVHDBN" + "tgcayrswmkvhdbn")
_LETTERS = frozenset(IUPAC_DNA + IUPAC_DNA.lower())

POOLINGS = ("mean", "variant")
STRANDS = {"forward": ("forward",), "reverse": ("reverse",), "both": ("forward", "reverse")}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

VARIANT_RADIUS = 8
"""Tokens on either side of a variant's base that pooling="variant" averages besides the base's own token."""

_MAX_FAULTS_SHOWN = 10

Part = TypeVar("Part")


def reverse_complement(sequence: str) -> str:
    """The same bases as read on the other strand, 5' to 3'; IUPAC codes are complemented too and case is kept.

    Args:
        sequence: letters of ACGTRYSWKMBDHVN, either case; may be empty.

    Raises:
        TypeError: not a string.
        ValueError: a letter outside the IUPAC DNA codes.
    """
    fault = _letter_fault(sequence)
    if fault is not None:
        raise (ValueError if isinstance(sequence, str) else TypeError)(
            f"reverse_complement expects one string of IUPAC DNA codes ({IUPAC_DNA}); it {fault}.\n"
            "  fix: pass plain DNA; write RNA's U as T."
        )
    return sequence.translate(_COMPLEMENT)[::-1]


class DNAEncoder(ABC):
    """A frozen network that reads DNA: strings → vectors.

    A token is a base here: token t of a sequence belongs to its base t (0-based), the network's special tokens are dropped.

    Attributes:
        width: channels of one vector.
        max_bases: longest sequence that is accepted, in bases.
        fingerprint: SHA-256 (hex) over weights, configuration, layer, precision and the revision of the network's code: equal
            fingerprints, equal vectors, up to the rounding of another device, batch or library.
        description: one line that says which weights these are.
        batch_tokens: upper bound of the bases that run at once, and so of the memory; a longer sequence runs alone.
        strand_symmetric: whether the network itself reads both strands alike, so that one pass serves every `strands`.
    """

    strand_symmetric = False

    def __init__(
        self, *, width: int, max_bases: int, fingerprint: str, description: str, device: torch.device, batch_tokens: int
    ) -> None:
        self.width = width
        self.max_bases = max_bases
        self.fingerprint = fingerprint
        self.description = description
        self.device = device
        self.batch_tokens = batch_tokens

    @abstractmethod
    def _tokens(self, sequences: list[str]) -> Tensor:
        """Upper-case sequences of one length L → (n, L, width) on the encoder's device, floating point of any precision."""

    def embed(
        self,
        sequences: Sequence[str],
        pooling: str = "mean",
        strands: str = "both",
        positions: Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """One vector a sequence. Every distinct string runs once, in batches of equal length, never padded.

        Args:
            sequences: DNA, IUPAC codes of either case, 1 … max_bases letters each; may be an empty list.
            pooling: "mean" over all tokens; "variant": over the tokens at most VARIANT_RADIUS away from any of the sequence's
                `positions` (windows are cut at the ends and a token in two windows counts once).
            strands: "forward" as written; "reverse" its reverse complement; "both" the mean of these two vectors.
            positions: a sequence's variant bases, 0-based in that sequence as written (also for the reverse strand, where they
                are mirrored); at least one a sequence. Needed for pooling="variant" and for nothing else.

        Returns:
            (len(sequences), width) float32 on the CPU, row i for sequence i.

        Raises:
            TypeError: `sequences` is one string, or holds something that is no string.
            ValueError: unknown pooling or strands; sequences that are empty, too long or hold other letters (all listed, with
                their index); positions missing, superfluous, or no bases of their sequence (all listed).
        """
        _check_choice("pooling", pooling, POOLINGS)
        _check_choice("strands", strands, STRANDS)
        sequences = self._checked_sequences(sequences)
        sites = _checked_positions(sequences, positions, pooling)
        directions = ("forward",) if self.strand_symmetric else STRANDS[strands]
        wanted = [_orient(seq, at, way) for way in directions for seq, at in zip(sequences, sites, strict=True)]
        vectors = self._pooled(wanted)
        return vectors.reshape(len(directions), len(sequences), self.width).mean(dim=0)

    def hidden_states(self, sequence: str) -> Tensor:
        """All tokens of one sequence's forward strand.

        Args:
            sequence: DNA, IUPAC codes of either case, 1 … max_bases letters.

        Returns:
            (tokens, width) float32 on the CPU; special tokens dropped.

        Raises:
            TypeError, ValueError: as in `embed`.
        """
        return self._run(self._checked_sequences([sequence]))[0].to("cpu", torch.float32)

    def _pooled(self, wanted: list[tuple[str, tuple[int, ...]]]) -> Tensor:
        """(sequence, positions) pairs → (len(wanted), width): distinct sequences run once, distinct pairs are pooled once."""
        sites_of: dict[str, dict[tuple[int, ...], None]] = {}
        for sequence, sites in wanted:
            sites_of.setdefault(sequence, {})[sites] = None

        def run_and_pool(batch: list[str]) -> dict[tuple[str, tuple[int, ...]], Tensor]:
            pairs = [(i, sequence, sites) for i, sequence in enumerate(batch) for sites in sites_of[sequence]]
            tokens_BLD = self._run(batch)
            pooled = torch.stack([_pool(tokens_BLD[i], sites) for i, _, sites in pairs]).to("cpu", torch.float32)
            return {(sequence, sites): vector for (_, sequence, sites), vector in zip(pairs, pooled, strict=True)}

        batches = list(_equal_length_batches(sites_of, self.batch_tokens))
        vector_of: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        for part in _map_in_threads(run_and_pool, batches) if self.device.type == "cpu" else map(run_and_pool, batches):
            vector_of.update(part)
        return torch.stack([vector_of[pair] for pair in wanted]) if wanted else torch.empty(0, self.width)

    @torch.no_grad()
    def _run(self, sequences: list[str]) -> Tensor:
        """`_tokens` in the precision that the fingerprint names, whatever autocast the caller is in."""
        with torch.autocast(self.device.type, enabled=False):
            return self._tokens(sequences)

    def _checked_sequences(self, sequences: Sequence[str]) -> list[str]:
        """Upper-case copies, or one error that lists what is wrong with which sequence."""
        if isinstance(sequences, str):
            raise TypeError(
                f"embed expects a list of sequences; it got one string of {len(sequences)} letters.\n  fix: pass [sequence]."
            )
        sequences = list(sequences)
        faults = [f"sequence {i} {fault}" for i, seq in enumerate(sequences) if (fault := self._sequence_fault(seq)) is not None]
        if faults:
            more = f"\n  … and {len(faults) - _MAX_FAULTS_SHOWN} more" if len(faults) > _MAX_FAULTS_SHOWN else ""
            raise (ValueError if all(isinstance(seq, str) for seq in sequences) else TypeError)(
                f"Sequences are strings of 1 to {self.max_bases} IUPAC DNA codes; {len(faults)} of {len(sequences)} are not:\n  "
                + "\n  ".join(faults[:_MAX_FAULTS_SHOWN])
                + f"{more}\n  fix: narrow the region window, drop symbolic alleles, write RNA's U as T."
            )
        return [seq.upper() for seq in sequences]

    def _sequence_fault(self, sequence: object) -> str | None:
        if isinstance(sequence, str) and not sequence:
            return "is empty"
        if isinstance(sequence, str) and len(sequence) > self.max_bases:
            return f"has {len(sequence)} bases; at most {self.max_bases} fit"
        return _letter_fault(sequence)


def fingerprint(config: dict, layer: int | str | None, model: nn.Module) -> str:
    """SHA-256 (hex) over everything that decides an encoder's vectors.

    Args:
        config: the encoder's name, settings and the revision of its code (weights do not tell what is computed); must be JSON.
        layer: which layer's output is read; None is the encoder's default.
        model: its weights and buffers are hashed in the precision they compute in, so another dtype is another fingerprint.
    """
    digest = hashlib.sha256(json.dumps({"config": config, "layer": layer}, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def resolve_device_and_dtype(
    device: str | torch.device | None, dtype: str | torch.dtype | None
) -> tuple[torch.device, torch.dtype]:
    """None → the GPU where there is one, and float32.

    Raises:
        ValueError: a precision other than float32 or bfloat16.
    """
    known = {**DTYPES, **{kind: kind for kind in DTYPES.values()}, None: torch.float32}
    if dtype not in known:
        raise ValueError(f"dtype of a DNA encoder must be one of {', '.join(DTYPES)}; got {dtype!r}.\n  fix: dtype=float32.")
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")), known[dtype]


def _letter_fault(sequence: object) -> str | None:
    """What keeps this from being a string of IUPAC DNA codes, as the rest of a sentence; None if nothing does."""
    if not isinstance(sequence, str):
        return f"is {type(sequence).__name__}, not a string"
    strange = set(sequence) - _LETTERS
    if strange:
        at = min(sequence.index(letter) for letter in strange)
        return f"holds {sequence[at]!r} at base {at} (0-based)"
    return None


def _check_choice(what: str, value: str, known: Sequence[str] | dict) -> None:
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}; got {value!r}.\n  fix: {what}={next(iter(known))}.")


def _checked_positions(sequences: list[str], positions: Sequence[Sequence[int]] | None, pooling: str) -> list[tuple[int, ...]]:
    """Sorted distinct positions, one tuple a sequence; empty tuples where pooling needs none."""
    if pooling != "variant":
        if positions is not None:
            raise ValueError(f'positions belong to pooling="variant"; pooling is {pooling!r}.\n  fix: drop one of the two.')
        return [()] * len(sequences)
    if not isinstance(positions, Sized) or len(positions) != len(sequences):
        got = f"{len(positions)} for {len(sequences)} sequences" if isinstance(positions, Sized) else repr(positions)
        raise ValueError(
            f'pooling="variant" needs positions, one list a sequence; got {got}.\n  fix: pass positions, or pooling="mean".'
        )
    sites = [_bases(given, len(sequence)) for sequence, given in zip(sequences, positions, strict=True)]
    faults = [
        f"sequence {i} has {len(sequence)} bases; got {given!r:.80}"
        for i, (sequence, given, at) in enumerate(zip(sequences, positions, sites, strict=True))
        if not at
    ]
    if faults:
        more = f"\n  … and {len(faults) - _MAX_FAULTS_SHOWN} more" if len(faults) > _MAX_FAULTS_SHOWN else ""
        raise ValueError(
            f"positions of a sequence must be a list of one or more of its bases, 0-based integers; {len(faults)} are not:\n  "
            + "\n  ".join(faults[:_MAX_FAULTS_SHOWN])
            + f'{more}\n  fix: give positions in each sequence\'s own coordinates, or use pooling="mean".'
        )
    return sites


def _bases(positions: object, length: int) -> tuple[int, ...]:
    """Sorted distinct positions; () unless they are integers, of whatever kind but bool, in [0, length)."""
    try:
        positions = list(positions)
        bases = sorted({operator.index(position) for position in positions})
    except TypeError:
        return ()
    if not bases or bases[0] < 0 or bases[-1] >= length or any(isinstance(position, bool) for position in positions):
        return ()
    return tuple(bases)


def _orient(sequence: str, positions: tuple[int, ...], direction: str) -> tuple[str, tuple[int, ...]]:
    """The sequence as that strand reads it, and where its positions lie there."""
    if direction == "forward":
        return sequence, positions
    return reverse_complement(sequence), tuple(len(sequence) - 1 - p for p in reversed(positions))


def _equal_length_batches(sequences: Sequence[str] | dict[str, object], batch_tokens: int) -> Iterator[list[str]]:
    """Batches of sequences of one length, at most `batch_tokens` letters in each unless a single one is longer."""
    by_length: dict[int, list[str]] = {}
    for sequence in sequences:
        by_length.setdefault(len(sequence), []).append(sequence)
    for length in sorted(by_length):
        size = max(1, batch_tokens // length)
        for start in range(0, len(by_length[length]), size):
            yield by_length[length][start : start + size]


def _map_in_threads(work: Callable[[list[str]], Part], batches: list[list[str]]) -> Iterable[Part]:
    """`work` on all batches, one single-threaded batch a core: small operators shared among cores mostly wait for each other."""
    threads = torch.get_num_threads()
    if threads == 1 or len(batches) < threads:
        return map(work, batches)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, batches))
    finally:
        torch.set_num_threads(threads)  # what a worker sets also becomes the default of threads that start later


def _pool(tokens_LD: Tensor, positions: tuple[int, ...]) -> Tensor:
    """(L, D) → (D,): mean over all tokens, or over those within VARIANT_RADIUS of a position.

    Summed in float64: one base among thousands moves the mean by little more than float32's rounding of a long sum.
    """
    if positions:
        near = {t for p in positions for t in range(max(0, p - VARIANT_RADIUS), min(len(tokens_LD), p + VARIANT_RADIUS + 1))}
        tokens_LD = tokens_LD[sorted(near)]
    return tokens_LD.mean(dim=0, dtype=torch.float64)
