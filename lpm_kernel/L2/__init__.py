"""L2, memory in weights: training rows, adapters, GGUF, evaluation."""
