"""How a loop runs: processes, optimiser, checkpoints. Nothing here knows what is being learned."""
