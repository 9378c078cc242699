"""Ranks, metrics, permutation and bootstrap, and the baselines to beat: arrays flow in, figures flow out."""
