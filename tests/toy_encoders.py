"""Toy DNA encoders whose every vector can be written down."""

import torch
from torch import nn

from encoders.dna import DNAEncoder

LETTERS = "ACGTN"


class ToyEncoder(DNAEncoder):
    """Token t of a sequence is (its letter's number, t): mean vectors and mirrored positions are known by arithmetic."""

    def __init__(self, batch_tokens: int = 1000) -> None:
        super().__init__(
            model=nn.Module(),
            width=2,
            max_bases=100,
            fingerprint="toy",
            description="toy",
            device=torch.device("cpu"),
            batch_tokens=batch_tokens,
        )
        self.ran: list[list[str]] = []

    def _tokens(self, sequences):
        self.ran.append(list(sequences))
        letters = torch.tensor([[LETTERS.index(letter) for letter in sequence] for sequence in sequences])
        return torch.stack([letters, torch.arange(letters.shape[1]).expand_as(letters)], dim=-1).bfloat16()


class SymmetricToyEncoder(ToyEncoder):
    strand_symmetric = True


class KmerEncoder(DNAEncoder):
    """Three bases a token, whose state is the number of the text's first token and its count of A; N masks a token."""

    bases_per_token = 3
    masks_n = True

    def __init__(self, frames=(0,)) -> None:
        facts = {"width": 2, "max_bases": 32, "fingerprint": "kmers", "description": "kmers", "batch_tokens": 100}
        super().__init__(model=nn.Module(), device=torch.device("cpu"), **facts)
        self.offsets = frames
        self.ran: list[str] = []

    def _frames(self, length):
        return self.offsets

    def _tokens(self, sequences):
        self.ran += sequences
        kmers = [[text[t : t + 3] for t in range(0, len(text), 3)] for text in sequences]
        return torch.tensor([[[t, kmer.count("A")] for t, kmer in enumerate(row)] for row in kmers], dtype=torch.float32)
