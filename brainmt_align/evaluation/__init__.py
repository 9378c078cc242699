"""Ranks, metrics and permutation tests: arrays flow in, figures flow out."""
