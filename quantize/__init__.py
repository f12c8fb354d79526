"""Quantization: ggml types, block kernels, recipes. This layer knows no model, no file, no network."""

import os

# ggml's threads meet at a barrier after every node. GNU OpenMP spins there for long, which starves the thread that is
# waited for whenever other processes want the cores: with two of them busy, the tiny audio tokenizer took 5 times as
# long. It reads this once, when ggml is loaded, so it stands before anything imports ggml.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
