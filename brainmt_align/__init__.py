"""brainmt_align: a person's brain activity (4-D fMRI) and the same person's DNA in one 512-D space.

The map of the house; data flows one way through it:

    files on disk -> data/ -> (encoders/) -> model/ -> recipes/ -> evaluation/ -> reporting/

    config       the dataclasses of all recipes; only recipes import it
    data         readers, stores, cohort, splits, datasets, and a simulated cohort on disk
    model        projectors, towers, losses: features in, embeddings out
    training     processes, optimiser, checkpoints: how a loop runs, never what it computes
    evaluation   ranks, metrics, permutation, bootstrap, linear baselines: arrays in, figures out
    reporting    plots

Shape legend. A tensor that crosses a function border carries these letters as its suffix (`z_fmri_BE`):

    B  subjects in a batch        G  gathered batch (all processes)   T  frames
    V  in-mask voxels             N  spatial tokens                   L  sequence positions
    D  encoder width              E  shared width (512)               R  genomic regions (genes)
    H  haplotypes (2)             P  phenotypes

A volume is (D, H, W) = (Y, X, Z) of the NIfTI array; *features* are encoder outputs, *embeddings* are projected and of unit norm.
"""
