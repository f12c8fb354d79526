"""Ground floor: numbers. Rows of floats become ggml blocks; nothing here knows of models or files."""

import os

# ggml's threads meet at a barrier after every node. GNU OpenMP would spin there for milliseconds, which starves the
# thread that is waited for whenever another process wants a core: ten times slower on a busy machine. It reads this
# once, when ggml is loaded, so it stands before anything imports ggml.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
