"""The contract of a frozen DNA encoder: DNA strings flow in, one float32 vector a string (or one a token) flows out.

Strands, reading frames, windows and pooling are decided here and in `dna_sequences`, once; a subclass only says what its network
makes of strings of one length.
"""

import operator
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from tqdm import tqdm

from encoders.dna_network import FrozenNetwork
from encoders.dna_pooling import Readings, combine, pool, refuse_unreadable
from encoders.dna_sequences import (
    Piece,
    Reader,
    Selection,
    Wish,
    checked_positions,
    clean_sequences,
    count_replaced,
    cut_to_frame,
    equal_length_batches,
    masked_tokens,
    read_strand,
    reverse_complement,
    upper_case,
)
from encoders.threads import map_in_threads

POOLINGS = ("mean", "last", "variant")
STRANDS = {"forward": ("forward",), "reverse": ("reverse",), "both": ("forward", "reverse")}

VARIANT_RADIUS = 8
"""Bases on either side of a variant whose tokens pooling="variant" averages besides the variant's own."""

IN_FLIGHT_BASES = 65_536
"""Of all batches that run at once on a processor, one a thread; batches that would exceed it run alone, on all threads."""


class DNAEncoder(FrozenNetwork, ABC):
    """A frozen network that reads DNA: strings → vectors.

    Token t of a text belongs to its bases k·t to k·t + k - 1 (0-based, k = bases_per_token); special tokens are dropped.

    Attributes (`FrozenNetwork` has more):
        width: channels of one vector.
        max_bases: longest text that the network reads at once, in bases; may be lowered, never raised.
        description: one line that says which weights these are.
        batch_tokens: upper bound of the bases of a batch; a longer text is a batch of its own. On a processor as many batches as
            threads run at once while they hold at most IN_FLIGHT_BASES together, so that this bounds the memory.
        counts: what was read since the encoder was made: `passes` texts through the network, `bases` in them, `masked_tokens`
            left out of the pooling because of an N, `replaced_letters` of the distinct sequences that were read as N.
        max_replaced: share of a sequence that may be letters other than A, C, G, T and N; they are read as N.
        strand_symmetric: whether the network itself reads both strands alike, so that one pass serves every `strands`.
    """

    bases_per_token = 1
    strand_symmetric = False
    masks_n = False
    max_replaced = 0.05

    def __init__(
        self,
        *,
        model: nn.Module,
        width: int,
        max_bases: int,
        fingerprint: str,
        description: str,
        device: torch.device,
        batch_tokens: int,
    ) -> None:
        super().__init__(model, fingerprint, device)
        self.width = width
        self.max_bases = max_bases
        self.description = description
        self.batch_tokens = batch_tokens
        self.counts: Counter[str] = Counter()

    @abstractmethod
    def _tokens(self, sequences: list[str]) -> Tensor:
        """Texts of one length → (n, tokens, width) on the encoder's device, floating point of any precision."""

    def _frames(self, length: int) -> tuple[int, ...]:
        """First bases of the reading frames of a strand of this length; the vectors of the frames are averaged."""
        return (0,)

    def embed(
        self,
        sequences: Sequence[str],
        pooling: str = "mean",
        strands: str = "both",
        positions: Sequence[Sequence[int]] | None = None,
        *,
        radius: int = VARIANT_RADIUS,
        overlap: int | None = None,
        progress: bool = False,
    ) -> Tensor:
        """One vector a sequence. Every distinct text runs once, in batches of equal length, never padded.

        Args:
            sequences: DNA of either case, 1 … max_bases letters each (more with `overlap`); may be an empty list. Other letters,
                IUPAC codes among them, are read as N and counted; more than max_replaced of a sequence are refused.
            pooling: "mean" over all tokens; "last" the last token of each strand as it is read; "variant" over the tokens at most
                `radius` bases away from any of the sequence's `positions` (a token near two of them counts once). Tokens
                with an N are left out where the network has no token of its own for them.
            strands: "forward" as written; "reverse" its reverse complement; "both" the mean of these two vectors.
            positions: a sequence's variant bases, 0-based in that sequence as written (also for the reverse strand, where they
                are mirrored); at least one a sequence. Needed for pooling="variant" and for nothing else.
            radius: bases, for pooling="variant".
            overlap: None refuses sequences longer than max_bases; otherwise they are read in windows of max_bases that share so
                many bases, and the windows' vectors are averaged, each weighted by its number of pooled tokens.
            progress: show a progress bar.

        Returns:
            (len(sequences), width) float32 on the CPU, row i for sequence i; with a gradient after `adapt` alone.

        Raises:
            TypeError: `sequences` is one string, or holds something that is no string.
            ValueError: unknown pooling or strands; sequences that are empty, too short, too long or no DNA (all listed, with
                their index); positions missing, superfluous, or no bases of their sequence (all listed); a sequence none of
                whose tokens can be pooled; a radius or overlap out of range.
        """
        _check_choice("pooling", pooling, POOLINGS)
        _check_choice("strands", strands, STRANDS)
        _check_whole("radius", radius, 0, None)
        if overlap is not None:
            _check_whole("overlap", overlap, 0, self.max_bases - 1)
        sequences = list(sequences) if not isinstance(sequences, str) else sequences
        cleaned = clean_sequences(sequences, self.bases_per_token, self.max_bases if overlap is None else None, self.max_replaced)
        sites = checked_positions(cleaned, positions, pooling)
        self.counts["replaced_letters"] += sum(map(count_replaced, set(map(upper_case, sequences))))
        wishes = [Wish(pooling, at, radius) for at in sites]
        readings = {
            (seq, wish): self._readings(seq, wish, STRANDS[strands], overlap or 0)
            for seq, wish in zip(cleaned, wishes, strict=True)
        }
        refuse_unreadable(readings, cleaned, wishes)
        vector_of = self._pooled(cleaned, readings, progress)
        combined = {key: combine(strands_of, vector_of) for key, strands_of in readings.items()}
        rows = [combined[key] for key in zip(cleaned, wishes, strict=True)]
        return torch.stack(rows).float() if rows else torch.empty(0, self.width)

    def batches(self, sequences: Sequence[str]) -> list[list[str]]:
        """The distinct sequences in the batches in which `embed` takes them, in a fixed order.

        `embed` of some of these batches, in this order, makes up the same batches again, so that vectors do not depend on how
        batches are dealt out among processes: to the last bit where no two sequences share a text (a window, say).
        """
        return list(equal_length_batches(list(dict.fromkeys(sequences)), self.batch_tokens))

    def hidden_states(self, sequence: str) -> Tensor:
        """All tokens of one sequence's forward strand, in its first reading frame.

        Args:
            sequence: DNA of either case, 1 … max_bases letters; other letters are read as N, as in `embed`.

        Returns:
            (tokens, width) float32 on the CPU; special tokens dropped, tokens with an N kept.

        Raises:
            TypeError, ValueError: as in `embed`.
        """
        (cleaned,) = clean_sequences([sequence], self.bases_per_token, self.max_bases, self.max_replaced)
        text = cut_to_frame(cleaned, self._frames(len(cleaned))[0], self.bases_per_token)
        self._count([text])
        return self._run([text], self._keeps_graph())[0].to("cpu", torch.float32)

    def _readings(self, sequence: str, wish: Wish, directions: tuple[str, ...], overlap: int) -> Readings:
        """Pieces a frame a strand; a network that reads both strands alike takes the one as written for both, in one window."""
        reader = Reader(self.bases_per_token, self.max_bases, self.masks_n)
        one_pass = self.strand_symmetric and len(sequence) <= self.max_bases
        readings = []
        for direction in directions:
            strand, sites = sequence, wish.sites
            if direction == "reverse" and one_pass:
                last = wish.pooling == "last"  # of the other strand: the first token of this one
                pieces = [Piece(sequence, (0,), 1)] if last else read_strand(strand, wish, 0, reader, overlap)
                readings.append([pieces])
                continue
            if direction == "reverse":
                strand, sites = reverse_complement(sequence), tuple(len(sequence) - 1 - site for site in reversed(wish.sites))
            frames = self._frames(len(strand))
            readings.append([read_strand(strand, wish._replace(sites=sites), frame, reader, overlap) for frame in frames])
        return readings

    def _pooled(
        self, sequences: list[str], readings: dict[tuple[str, Wish], Readings], progress: bool
    ) -> dict[tuple[str, Selection], Tensor]:
        """(text, selection) → the mean (width,) of those tokens, float64 on the CPU."""
        pieces_of: dict[str, list[Piece]] = {}
        for (sequence, _), strands in readings.items():
            pieces_of.setdefault(sequence, []).extend(piece for frames in strands for pieces in frames for piece in pieces)
        selections: dict[str, dict[Selection, None]] = {}
        texts: list[list[str]] = []
        for batch in self.batches(sequences):
            new = dict.fromkeys(piece.text for seq in batch for piece in pieces_of[seq] if piece.text not in selections)
            texts += equal_length_batches(list(new), self.batch_tokens)
            for piece in (piece for seq in batch for piece in pieces_of[seq]):
                selections.setdefault(piece.text, {})[piece.selection] = None
        keeps_graph = self._keeps_graph()

        def run_and_pool(batch: list[str]) -> dict[tuple[str, Selection], Tensor]:
            states = zip(batch, self._run(batch, keeps_graph), strict=True)
            return {(text, each): pool(tokens_LD, each) for text, tokens_LD in states for each in selections[text]}

        most = IN_FLIGHT_BASES // torch.get_num_threads() if self.device.type == "cpu" and not keeps_graph else 0
        beside = [batch for batch in texts if sum(map(len, batch)) <= most]
        alone = [batch for batch in texts if sum(map(len, batch)) > most]
        texts, done = beside + alone, chain(map_in_threads(run_and_pool, beside), map(run_and_pool, alone))
        vector_of: dict[tuple[str, Selection], Tensor] = {}
        with tqdm(desc="DNA", unit="base", unit_scale=True, total=sum(map(len, selections)), disable=not progress) as bar:
            for batch, part in zip(texts, done, strict=True):
                vector_of.update(part)
                self._count(batch)
                bar.update(sum(map(len, batch)))
        return vector_of

    def _run(self, texts: list[str], keeps_graph: bool) -> Tensor:
        """`_tokens` in the precision that the fingerprint names, whatever autocast the caller is in."""
        with torch.set_grad_enabled(keeps_graph), torch.autocast(self.device.type, enabled=False):
            return self._tokens(texts)

    def _count(self, texts: list[str]) -> None:
        self.counts.update({"passes": len(texts), "bases": sum(map(len, texts))})
        if self.masks_n:
            self.counts["masked_tokens"] += sum(len(masked_tokens(t, self.bases_per_token)) for t in texts if "N" in t)


def _check_choice(what: str, value: str, known: Sequence[str] | dict) -> None:
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}; got {value!r}.\n  fix: {what}={next(iter(known))}.")


def _check_whole(what: str, value: int, least: int, most: int | None) -> None:
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        upper = "" if most is None else f" and at most {most}"
        raise ValueError(
            f"{what} must be a whole number of bases, at least {least}{upper}; got {value!r}.\n  fix: {what}={least}."
        )
