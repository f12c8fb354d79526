"""A family that is not of the package: a small text-conditioned recogniser, whole in one GGUF file.

It is the example of docs/families.md. Audio of 16 kHz becomes log-power frames, which one layer projects into the
embeddings of a decoder with norms of queries and keys, whose head is its embedding.
"""
