"""Projectors, towers and losses: encoder features flow in, unit-norm embeddings and scalars flow out."""
