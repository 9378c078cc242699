"""Readers, stores, cohort, splits and datasets: files on disk flow in, batches flow out."""
