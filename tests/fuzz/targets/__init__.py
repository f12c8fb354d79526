"""Every target: what is damaged, and the commands that read it."""

from collections.abc import Callable

from tests.fuzz.case import Case, Edits
from tests.fuzz.seeds import Seeds
from tests.fuzz.targets import of_adapters, of_checkpoints, of_files, of_hub, of_imatrix

MakeCase = Callable[[Edits, Seeds], Case]

TARGETS: dict[str, MakeCase] = {
    "safetensors": of_checkpoints.safetensors,
    "index": of_checkpoints.index,
    "config": of_checkpoints.config,
    "vocabulary": of_checkpoints.vocabulary,
    "hub-note": of_checkpoints.hub_note,
    "recipe": of_checkpoints.recipe,
    "adapter": of_adapters.adapter,
    "imatrix": of_imatrix.imatrix,
    "journal": of_checkpoints.journal,
    "gguf-static": of_files.gguf_static,
    "gguf-checkpoint": of_files.gguf_checkpoint,
    "gguf-quantize": of_files.gguf_quantize,
    "gguf-run": of_files.gguf_run,
    "gguf-publish": of_files.gguf_publish,
    "reference": of_files.reference,
    "audio": of_files.audio,
    "manifest": of_files.manifest,
    "report": of_files.report,
    "toml": of_files.nightly_toml,
    "history": of_files.history,
}
TARGETS |= of_hub.TARGETS
