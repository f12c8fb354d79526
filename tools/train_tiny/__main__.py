"""Train the tiny checkpoint pair of the tests: `python -m tools.train_tiny --out mimo_families/mimo_audio/data/tiny`.

Two models with the architecture and file layout of MiMo-V2.5-ASR and its audio tokenizer, in 12 MB together. They know
the JFK clip and forty sentences spoken by espeak-ng, and nothing else, but they know them as the large ones do: from
codes, through the same layers. The functions trained are those of `mimo_families.mimo_audio.reference`.

The audio tokenizer learns first (letters by CTC, and the clean mel spectrogram), gets its codebooks by k-means, and
then learns to keep frames away from the borders of their codebook cells, so that quantized weights give the same codes.
The speech LM learns to answer the prompt with the transcript. All along, matrices are read with noise of Q4_K's size.
"""

import time

from mimo_convert.formats.config import Config
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.text.tokenizer import TextTokenizer

from .audio_tokenizer import train_audio_tokenizer
from .configs import ASR_CONFIG, TOKENIZER_CONFIG
from .files import save_asr, save_audio_tokenizer
from .speech import VOICES, espeak, jfk_clip
from .speech_lm import Prompts, code_versions, train_speech_lm, transcribe
from .start import begin
from .text import SENTENCES, TEXT, WRITTEN_TEXT, save_text_tokenizer, train_text_tokenizer


def main() -> None:
    out, rng = begin("the tiny checkpoint pair", ("asr", "tokenizer"))
    started = time.monotonic()

    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    spoken = [espeak(sentence, *voice) for sentence in sentences for voice in VOICES]
    clips = [*sorted(spoken, key=lambda clip: len(clip.spoken)), jfk_clip()]
    lines = [f" {text}" for text in (*sentences, *[JFK_TEXT] * 3)]
    text_tokenizer = train_text_tokenizer(lines + WRITTEN_TEXT.read_text(encoding="utf-8").splitlines(keepends=True))
    save_text_tokenizer(text_tokenizer, out / "asr")

    tok_dims = mimo_tokenizer.dimensions(Config(out / "tokenizer" / "config.json", TOKENIZER_CONFIG))
    lm_dims = mimo_asr.dimensions(Config(out / "asr" / "config.json", ASR_CONFIG))
    save_audio_tokenizer(train_audio_tokenizer(clips, tok_dims, lm_dims.channels, rng), out / "tokenizer")

    codes = code_versions(clips, out / "tokenizer", tok_dims, lm_dims.channels, rng)
    prompts = Prompts(TextTokenizer(text_tokenizer, sha256="", stop_tokens=TEXT.stop_tokens), lm_dims)
    save_asr(train_speech_lm(clips, codes, prompts, rng), out / "asr")

    transcripts = [transcribe(of_clip[-1], out / "asr") for of_clip in codes]
    right = [transcript == clip.text for transcript, clip in zip(transcripts, clips, strict=True)]
    print(f"JFK: {transcripts[-1]}")
    print(f"{sum(right)} of {len(right)} clips word for word; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
