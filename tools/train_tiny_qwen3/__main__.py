"""Train the tiny Qwen3-ASR: `python -m tools.train_tiny_qwen3 --out mimo_families/qwen3_asr/data/tiny`.

A model with the architecture and file layout of Qwen3-ASR, and an adapter in Mega-ASR's format, in 6 MB together. It
knows the JFK clip and 52 English and German sentences spoken by espeak-ng, alone or after one another, and tells them
from silence and noise. Speech that noise drowns is silence to it as well; the adapter makes it hear that, too.

The audio tower learns first (letters by CTC), then the whole model learns to answer the prompt, then the adapter learns
beside the finished model. All along, matrices are read with noise of Q4_K's size.
"""

import time

from runtime_check.audio.jfk import JFK_TEXT
from tools.train_tiny.start import begin
from tools.train_tiny.weights import TinyWeights

from .adapter import merged, save_adapter, train_adapter
from .files import save_checkpoint
from .speech import Speech, every_clip
from .text import TAG, Prompts, save_text_tokenizer, train_text_tokenizer
from .training import train
from .transcribe import transcribe


def main() -> None:
    out, rng = begin("the tiny Qwen3-ASR checkpoint and its adapter", ("model", "noise"))
    started = time.monotonic()

    clips = every_clip()
    speech = Speech(clips, rng)
    tokenizer = train_text_tokenizer([JFK_TEXT] * 3 + sorted({clip.text for clip in speech.sentences}))
    save_text_tokenizer(tokenizer, out / "model")
    prompts = Prompts(tokenizer)
    tensors = train(speech, prompts, rng)
    save_checkpoint(tensors, prompts, out / "model")
    adapter = train_adapter(tensors, speech, prompts, rng)
    save_adapter(adapter, out / "noise")

    print(f"trained in {time.monotonic() - started:.0f} s", flush=True)
    model = {name: tensor.float() for name, tensor in tensors.items()}
    drowned = [speech.drowned(clip) for clip in clips[::3]]
    for what, weights, hears_drowned in (("model", model, False), ("with adapter", merged(model, adapter), True)):
        heard = [*clips, *drowned]
        answers = [transcribe(clip.wave, TinyWeights(weights), prompts) for clip in heard]
        expected = [clip.answer(hears_drowned) for clip in heard]
        texts = [f"language {language}{TAG}{text}" for text, language in expected]
        right = sum(answer == text for answer, text in zip(answers, texts, strict=True))
        print(f"{what}: {right} of {len(texts)} answers as expected, the last {len(drowned)} in noise", flush=True)
        for answer, text in zip(answers, texts, strict=True):
            if answer != text:
                print(f"  {text} → {answer}")


if __name__ == "__main__":
    main()
