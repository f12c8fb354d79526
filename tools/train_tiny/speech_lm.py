"""Train the speech LM to answer the prompt with the transcript."""

import random
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.model.family import Layout
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_audio import reference
from mimo_families.mimo_audio.layout import SPEECH_GENERATION, SpeechLMDims
from mimo_families.mimo_audio.prompt import build_prompt, clean_transcript
from mimo_families.mimo_tokenizer import reference as audio_tokenizer
from mimo_families.mimo_tokenizer.layout import AudioTokenizerDims
from runtime_check.pytorch.weights import CheckpointWeights, Weights
from runtime_check.run.activations import GREEDY
from runtime_check.text.tokenizer import TextTokenizer

from .configs import ASR_CONFIG
from .files import read_weights
from .speech import Clip, augmented_mels, pick_batch
from .text import TEXT
from .weights import WEIGHT_NOISE, TinyWeights, initial_weights, optimize, rounded

RECOGNITION = Layout(without=frozenset({SPEECH_GENERATION}))  # tools/train_speech trains the rest
LM_STEPS = 1200
WRONG_CODES = 0.3  # at most this share of the codes that the speech LM reads is replaced by chance


class Prompts:
    """Prompts as the speech LM reads them, one group a row, with its text tokenizer."""

    def __init__(self, text_tokenizer: TextTokenizer, d: SpeechLMDims) -> None:
        self.encode, self.d = text_tokenizer.encode, d
        self.empty = self.encode("<|empty|>")[0]

    def prompt(self, codes: Tensor, language: str) -> tuple[Tensor, Tensor]:
        """(frames, channels) → text ids (G,) and grouped codes (G, group_size, channels)."""
        ids = torch.from_numpy(build_prompt(codes.numpy(), self.encode, self.d, language)).long()
        return ids[0, :: self.d.group_size], ids[1:].T.unflatten(0, (-1, self.d.group_size))

    def no_codes(self, n_groups: int) -> Tensor:
        """What stands in the channels of `n_groups` groups of text."""
        return torch.tensor(self.d.speech_zeroemb).expand(n_groups, self.d.group_size, -1)

    def embeds(self, text: Tensor, codes: Tensor, w: Weights) -> Tensor:
        """Text ids (…, G), codes (…, G, group_size, channels) → inputs embeds (…, G, hidden_size)."""
        speech = text == self.empty
        return reference.audio_features(codes, speech, w, self.d) + reference.text_embeds(text, speech, w)


def train_speech_lm(
    clips: list[Clip], codes: list[list[Tensor]], prompts: Prompts, rng: random.Random
) -> dict[str, Tensor]:
    """`codes`: for each clip its codes (frames, channels) in many versions, the last as spoken."""
    d = prompts.d
    tensors = initial_weights(mimo_asr.FAMILY.tensors(d, RECOGNITION))
    weights = TinyWeights(tensors, WEIGHT_NOISE)
    versions = {id(clip): of_clip for clip, of_clip in zip(clips, codes, strict=True)}
    sizes = torch.tensor(d.speech_zeroemb)

    def answer() -> Tensor:
        text, groups, labels = zip(*(example(clip) for clip in pick_batch(clips, rng)), strict=True)
        longest = max(map(len, text))
        groups = [torch.cat([g, prompts.no_codes(longest - len(g))]) for g in groups]
        text, labels = (torch.nn.utils.rnn.pad_sequence(t, True, value) for t, value in ((text, 0), (labels, -100)))
        _, hidden = reference.language_model(prompts.embeds(text, torch.stack(groups), weights), weights, d)
        asked = labels != -100
        return F.cross_entropy(F.linear(hidden[asked], weights("lm_head.weight")), labels[asked])

    def example(clip: Clip) -> tuple[Tensor, Tensor, Tensor]:
        """Text ids (G,), grouped codes, and for each position the token that shall follow, -100 inside the prompt."""
        frames = rng.choice(versions[id(clip)])
        wrong = torch.rand(frames.shape) < rng.uniform(0, WRONG_CODES)
        frames = torch.where(wrong, (torch.rand(frames.shape) * sizes).long(), frames)
        language = "auto" if rng.random() < 0.2 else "english"
        text, groups = prompts.prompt(frames, language)
        tag = "<english>" if language == "auto" else ""
        follow = torch.tensor(prompts.encode(f"{tag} {clip.text}<|im_end|>"))
        text_ids = torch.cat([text, follow[:-1]])
        labels = torch.cat([torch.full((len(text) - 1,), -100), follow])
        return text_ids, torch.cat([groups, prompts.no_codes(len(follow) - 1)]), labels

    optimize(list(tensors.values()), LM_STEPS, 2e-3, answer, "speech LM")
    return rounded(tensors)


def code_versions(
    clips: list[Clip], folder: Path, d: AudioTokenizerDims, channels: int, rng: random.Random
) -> list[list[Tensor]]:
    """For each clip its codes (frames, channels) under many augmentations, more for JFK, and the last as spoken.

    By the audio tokenizer in `folder`, so that the speech LM learns from the codes of its rounded weights.
    """
    w = TinyWeights(read_weights(folder))

    def versions(clip: Clip, n: int) -> Iterator[Tensor]:
        mels = [augmented_mels([clip], d, rng)[0][0] for _ in range(n)] + [audio_tokenizer.log_mel(clip.spoken, d)]
        with torch.no_grad():
            for mel in mels:
                yield audio_tokenizer.residual_codes(audio_tokenizer.encoder(mel, w, d)["tok_pool"], w, channels)

    return [list(versions(clip, 60 if clip is clips[-1] else 8)) for clip in clips]


def transcribe(codes: Tensor, folder: Path) -> str:
    """What the speech LM in `folder` hears in codes (frames, channels), greedily, in 64 tokens at most."""
    checkpoint = open_checkpoint(str(folder))
    text = TextTokenizer.from_checkpoint(checkpoint, ASR_CONFIG["vocab_size"], TEXT)
    d = mimo_asr.dimensions(checkpoint.config)
    prompt = build_prompt(codes.numpy(), text.encode, d)
    stages = reference.decode(CheckpointWeights(checkpoint, torch.float32), prompt, d, text, 64)
    return clean_transcript(text.decode(stages[GREEDY].tolist()))
