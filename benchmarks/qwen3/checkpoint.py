"""A random checkpoint of Qwen3-ASR 1.7B's shapes, and an adapter of the published size."""

from pathlib import Path

from benchmarks.full_size import shards
from tests.qwen3_checkpoint import REAL_AUDIO, REAL_TEXT, module_shapes, write_adapter, write_qwen3_asr

RANK = 9  # of 539 pairs: 95 MB, of the published ones 8.8 on average, 92.5 MB


def checkpoint_in(folder: Path) -> Path:
    """The checkpoint in `folder`, two shards of 4.7 GB together; made if it is not there."""
    checkpoint = folder / "Qwen3-ASR-1.7B"
    if not checkpoint.exists():
        write_qwen3_asr(checkpoint, n_shards=2, text=REAL_TEXT, audio=REAL_AUDIO)
    return checkpoint


def adapter_in(folder: Path) -> Path:
    """The adapter in `folder`, made if it is not there: pairs for every module, for those of the decoder twice."""
    adapter = folder / "lora"
    if not adapter.exists():
        modules = module_shapes(REAL_TEXT, REAL_AUDIO)
        write_adapter(adapter, rank=RANK, alpha=RANK, modules=modules)
    return adapter


def size_of(*folders: Path) -> int:
    """Bytes of the shards."""
    return sum(shard.stat().st_size for shard in shards(*folders))
