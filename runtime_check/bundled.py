"""What comes with the package, and the names the command lines know: the published pair, and the tiny one."""

from pathlib import Path

from mimo_convert.checkpoint import Checkpoint, open_checkpoint

DATA = Path(__file__).parent / "data"

JFK = DATA / "jfk.wav"  # 11.0 s, 16 kHz mono; a US government recording, public domain
JFK_SHA256 = "59dfb9a4acb36fe2a2affc14bacbee2920ff435cb13cc314a08c13f66ba7860e"
JFK_TEXT = (
    "And so, my fellow Americans, ask not what your country can do for you. Ask what you can do for your country."
)

MODEL, TOKENIZER = "XiaomiMiMo/MiMo-V2.5-ASR", "XiaomiMiMo/MiMo-Audio-Tokenizer"

TINY = "tiny"
TINY_ASR = DATA / "tiny" / "asr"
TINY_TOKENIZER = DATA / "tiny" / "tokenizer"
TINY_REFERENCE = DATA / "tiny" / "reference.safetensors"


def open_model(source: str, *, stream: bool = False) -> Checkpoint:
    """`tiny`, a folder or a Hub id. Raises InputError for anything else."""
    return open_checkpoint(str(TINY_ASR), "tiny") if source == TINY else open_checkpoint(source, stream=stream)


def open_tokenizer(source: str | None, model: str, *, stream: bool = False) -> Checkpoint:
    """The audio tokenizer `source`; by default the one that belongs to `model`."""
    if source == TINY or (source is None and model == TINY):
        return open_checkpoint(str(TINY_TOKENIZER), "tiny-tokenizer")
    return open_checkpoint(source or TOKENIZER, stream=stream)
