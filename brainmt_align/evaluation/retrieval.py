"""Retrieval: embeddings of the same people from scan and from genome flow in; who finds whom, both ways, flows out."""

from brainmt_align.evaluation.ranks import rank_both_ways

__all__ = ["rank_both_ways"]
