"""Teach the tiny checkpoint pair to speak: `python -m tools.train_speech --pair mimo_families/mimo_audio/data/tiny`.

The pair recognises already (`tools.train_tiny`). It learns to say the forty sentences, each when its text asks for it:
the audio tokenizer gets a decoder and a vocoder, the speech LM a patch decoder and neurons of its own for speaking.
What it recognises with stays as it is, to the bit.

Parts that are in the work folder are not trained anew; `--only` trains one of them, so that several may be trained at
once.
"""

import argparse
import random
import time
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mimo_convert.formats.config import Config
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer
from runtime_check.text.tokenizer import TextTokenizer
from tools.train_tiny.configs import ASR_CONFIG, TOKENIZER_CONFIG
from tools.train_tiny.files import read_weights
from tools.train_tiny.speech import VOICES, espeak
from tools.train_tiny.speech_lm import Prompts
from tools.train_tiny.start import SEED, need_espeak
from tools.train_tiny.text import TEXT
from tools.train_tiny.weights import TinyWeights

from .clips import every_clip, said, sentences
from .files import is_of_decoder, recognition, save_speaking_pair
from .prompts import recognizing, speaking, unread_rows
from .sound import train_mel, train_voice, train_wave
from .speaking import initial_speech, train_speaking
from .switch import Switch, recognition_inputs, train_switch
from .two_bits import in_two_bits
from .understanding import Recogniser, train_understood

PARTS = ("decoder", "vocoder", "voice", "understood", "recognized", "switch", "speaking")
CODEBOOK = "encoder.quantizer.vq.layers.{}._codebook.embed"
Tensors = dict[str, Tensor]


class Lesson:
    """A pair that recognises, and what it learns from. Each method trains a part."""

    def __init__(self, pair: Path, work: Path) -> None:
        self.work = work
        self.tokenizer_dims = mimo_tokenizer.dimensions(Config(pair / "tokenizer" / "config.json", TOKENIZER_CONFIG))
        self.encoder = {name: x for name, x in read_weights(pair / "tokenizer").items() if not is_of_decoder(name)}
        self.lm = recognition(read_weights(pair / "asr"))
        dims = mimo_asr.dimensions(Config(pair / "asr" / "config.json", ASR_CONFIG))
        self.text = TextTokenizer.from_checkpoint(open_checkpoint(str(pair / "asr")), dims.vocab_size, TEXT)
        self.prompts = Prompts(self.text, dims)
        self.clips = every_clip(TinyWeights(self.encoder), self.tokenizer_dims)

    def decoder(self) -> Tensors:
        """Codes → mel."""
        return train_mel(self.clips, self.encoder, self.tokenizer_dims, SEED)

    def vocoder(self) -> Tensors:
        """Mel → wave."""
        return train_wave(self.clips, self.tokenizer_dims, SEED)

    def voice(self) -> Tensors:
        """Codes → wave: both together."""
        before = self.part("decoder") | self.part("vocoder")
        return train_voice(self.clips, self.encoder, before, self.tokenizer_dims, SEED)

    def understood(self) -> Tensors:
        """Codes → wave that the pair itself understands."""
        codebooks = [self.encoder[CODEBOOK.format(i)].float() for i in range(self.prompts.d.channels)]
        recogniser = Recogniser(self.lm, codebooks, self.prompts)
        return train_understood(self.clips, self.encoder, self.part("voice"), recogniser, self.tokenizer_dims, SEED)

    @cached_property
    def read(self) -> list[tuple[Tensor, Tensor]]:
        """Text ids and blocks of recognition, of every voice."""
        return list(recognizing(self.heard, self.prompts, random.Random(SEED)))

    @cached_property
    def heard(self) -> list[tuple[str, Tensor]]:
        """Texts and codes of every voice."""
        d, w = self.tokenizer_dims, TinyWeights(self.encoder)
        others = [said(espeak(sentence, *voice), w, d) for voice in VOICES[1:] for sentence in sentences()]
        return [(clip.text, clip.codes[:, : self.prompts.d.channels]) for clip in [*self.clips, *others]]

    def recognized(self) -> Tensors:
        """What each block's MLP reads in recognition, with the weights and with those of a Q2_K file, which takes
        sentences for others, too."""
        texts, codes = zip(*self.heard, strict=True)
        misheard = list(zip([*texts[1:], texts[0]], codes, strict=True))
        read = [*self.read, *recognizing(misheard, self.prompts, random.Random(SEED))]
        right = recognition_inputs(self.read, self.prompts, TinyWeights(self.lm))
        wrong = recognition_inputs(read, self.prompts, TinyWeights(in_two_bits(self.lm)))
        return {str(block): torch.cat(inputs) for block, inputs in enumerate(zip(right, wrong, strict=True))}

    def switch(self) -> Tensors:
        """Rows of the text embedding, and directions of the blocks."""
        ids = unread_rows((text for text, _ in self.read), self.text)
        examples = [speaking(clip, self.prompts) for clip in self.clips[:-1]]
        found = train_switch(examples, self.of_blocks("recognized"), self.lm, ids, self.prompts, SEED)
        return {"ids": torch.tensor(found.ids), "rows": found.rows, "directions": torch.stack(found.directions)}

    def speaking(self) -> Tensors:
        """The speech LM that speaks."""
        found = self.part("switch")
        switch = Switch(found["ids"].tolist(), found["rows"], list(found["directions"]))
        examples = [speaking(clip, self.prompts) for clip in self.clips[:-1]]
        speech = initial_speech(switch, self.prompts.d, SEED)
        return train_speaking(examples, self.of_blocks("recognized")[-1], self.lm, speech, self.prompts, SEED)

    def of_blocks(self, name: str) -> list[Tensor]:
        """A part that has a tensor for each block."""
        return [tensor for _, tensor in sorted(self.part(name).items())]

    def part(self, name: str) -> Tensors:
        """A part, from the work folder if it is there."""
        path = self.work / f"{name}.safetensors"
        if not path.is_file():
            trained: Tensors = getattr(self, name)()
            save_file({key: x.detach().contiguous() for key, x in trained.items()}, path)
        return load_file(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Teach the tiny checkpoint pair to speak.")
    parser.add_argument("--pair", type=Path, required=True, help="folder of asr/ and tokenizer/, which are replaced")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is trained so far")
    parser.add_argument("--only", choices=PARTS, help="train one part")
    options = parser.parse_args()
    need_espeak()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # where the processor can; weights are noisier than that
    started = time.monotonic()
    lesson = Lesson(options.pair, options.work)
    if options.only:
        lesson.part(options.only)
    else:
        save_speaking_pair(lesson.part("speaking"), lesson.encoder, lesson.part("understood"), options.pair)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
