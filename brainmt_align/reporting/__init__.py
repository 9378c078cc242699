"""Figures for people: arrays flow in, matplotlib figures flow out."""
