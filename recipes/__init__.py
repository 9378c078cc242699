"""Entry points: one file a job, each `main(argv)` reads from top to bottom."""
