"""The pair on ggml: the recognizer of one file, whose encoder reads another."""

from functools import cached_property

from mimo_convert.model.model_file import ModelFile
from mimo_convert.model.provenance import provenance_of
from quantize.errors import InputError
from runtime_check.ggml.graph import Backend, Weights

from ..front_end import Matrix
from ..harness import Names, Recognizer, table_of
from ..mel import hann_window, mel_filters
from .layout import ENCODER_NAMES
from .sizes import whole

IDS = {  # fields of the sizes that this layout has in its vocabulary alone → tokens
    "audio_start_id": "<|audio_start|>", "audio_end_id": "<|audio_end|>", "audio_pad_id": "<|audio_pad|>",
    "eos_id": "<|im_end|>", "pad_id": "<|endoftext|>",
}  # fmt: skip


def check_made_together(model: ModelFile, encoder: ModelFile) -> None:
    """Raise InputError for the encoder of another model, by its sizes, or by the adapter that both files record."""
    todo = "give the file that was made with it"
    if encoder.dims.proj_dim != model.dims.hidden_size:
        what = f"gives rows of {encoder.dims.proj_dim}"
        raise InputError(encoder.path, what, expected=f"{model.dims.hidden_size}, as {model.path} reads", todo=todo)
    ours, theirs = provenance_of(encoder.file), provenance_of(model.file)
    if ours.version and theirs.version and set(ours.adapter.values()) != set(theirs.adapter.values()):
        what, expected = (f"the adapter {one.adapter_name}" if one.adapter else "no adapter" for one in (ours, theirs))
        raise InputError(encoder.path, f"has {what}", expected=f"{expected}, as {model.path} has", todo=todo)


class PairRecognizer(Recognizer):
    """A `qwen3vl` file and a `clip` file, ready to encode audio and to decode."""

    names = Names(
        convolution="a.conv2d.",
        conv_out=ENCODER_NAMES["conv_out"],
        block="a.blk.",
        attn_norm="ln1",
        ffn_norm="ln2",
        norm=ENCODER_NAMES["ln_post"],
        projections=(ENCODER_NAMES["proj1"], ENCODER_NAMES["proj2"]),
    )

    def __init__(self, model: ModelFile, encoder: ModelFile, backend: Backend) -> None:
        super().__init__(model, backend)
        check_made_together(model, encoder)
        self.encoder, self.encoder_weights = encoder, Weights(encoder.file)
        ids = {field: self.text.id_of(token) for field, token in IDS.items()}
        self.d = whole(model.dims, encoder.dims, ids)

    def tables(self) -> tuple[Matrix, Matrix]:
        """The mel filters and the window, which llama.cpp computes."""
        return mel_filters(self.d.sample_rate, self.d.n_fft, self.d.n_mels), hann_window(self.d.win_length)

    def positions(self, n_rows: int) -> Matrix:
        """Positions of the rows of a chunk, as the file has them."""
        return self._positions[:n_rows]

    @cached_property
    def _positions(self) -> Matrix:
        return table_of(self.encoder, "a.position_embd.weight")
