"""Train the tiny checkpoint pair of the tests: `python tools/train_tiny.py --out runtime_check/data/tiny`.

Two models with the architecture and file layout of MiMo-V2.5-ASR and its audio tokenizer, in 12 MB together. They know
the JFK clip and forty sentences spoken by espeak-ng, and nothing else, but they know them as the large ones do: from
codes, through the same layers. The functions trained are those of `runtime_check.reference`.

The audio tokenizer learns first (letters by CTC, and the clean mel spectrogram), gets its codebooks by k-means, and
then learns to keep frames away from the borders of their codebook cells, so that quantized weights give the same codes.
The speech LM learns to answer the prompt with the transcript. All along, matrices are read with noise of Q4_K's size.
"""

import argparse
import io
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mimo_convert.checkpoint import Config, open_checkpoint  # noqa: E402
from mimo_convert.models import mimo_asr, mimo_tokenizer  # noqa: E402
from mimo_convert.models.family import Family  # noqa: E402
from mimo_convert.models.mimo_asr import SpeechLMDims  # noqa: E402
from mimo_convert.models.mimo_tokenizer import AudioTokenizerDims  # noqa: E402
from runtime_check import reference  # noqa: E402
from runtime_check.activations import GREEDY  # noqa: E402
from runtime_check.bundled import JFK, JFK_TEXT  # noqa: E402
from runtime_check.prompt import build_prompt  # noqa: E402
from runtime_check.text_tokenizer import TextTokenizer, with_qwen2_rules  # noqa: E402

SENTENCES = ROOT / "tools" / "tiny_sentences.txt"
WRITTEN_TEXT = ROOT / "tools" / "tiny_text.txt"  # only for the merges: headings, C, Python, Chinese
VOICES = (("en-us", 150, 50), ("en-gb", 165, 35), ("en-us+f3", 160, 60))  # espeak-ng: voice, words a minute, pitch
SPEEDS = (19, 20, 21)  # twentieths
SEED = 1961

ENCODER_STEPS = 400
CODEBOOK_STEPS = 600
K_MEANS_STEPS = 15
LM_STEPS = 1200
WEIGHT_NOISE = 0.08  # of a row's root mean square; Q4_K's own error is about that
MEL_SHARE = 0.2  # of the loss, beside CTC
BORDER = 0.5  # the distance that frames shall keep from the borders of their codebook cell
EVENNESS = 0.05  # weight of the entropy of a codebook's use: without it the deep levels stop telling frames apart
COMMITMENT = 1.0  # weight of what the codes leave of a frame
WRONG_CODES = 0.3  # at most this share of the codes that the speech LM reads is replaced by chance

AUDIO_CONFIG = {
    "group_size": 4,
    "audio_channels": 8,
    "delay_pattern": "0-1-2-3-4-5-6-7",
    "speech_vocab_size": "1025-1025-129-129-129-129-129-129",
    "speech_zeroemb_idx": "1024-1024-128-128-128-128-128-128",
    "input_full_attention": True,
    "input_local_layers": 1,
    "input_local_dim": 256,
    "input_local_attn_heads": 4,
    "input_local_head_dim": 64,
    "input_local_intermediate_size": 256,
    "out_hidden_size": 256,
    "local_layers": 1,
    "local_dim": 32,
    "local_attn_heads": 2,
    "local_ffn_dim": 32,
    "rope_theta": 640000,
    "partial_rotary_factor": 1.0,
    "add_post_norm": True,
    "audio_segment_size": 6000,
}
ASR_CONFIG = {
    "architectures": ["MiMoV2ASRForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 128,
    "intermediate_size": 256,
    "vocab_size": 1024,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
    "rope_theta": 640000,
    "max_position_embeddings": 8192,
    "attention_bias": True,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    **{key: AUDIO_CONFIG[key] for key in ("group_size", "audio_channels", "delay_pattern", "speech_vocab_size")},
    **{key: AUDIO_CONFIG[key] for key in ("speech_zeroemb_idx", "input_local_layers", "input_local_dim")},
    **{key: AUDIO_CONFIG[key] for key in ("input_full_attention", "local_layers", "local_dim")},
    **{key: AUDIO_CONFIG[key] for key in ("local_attn_heads", "local_ffn_dim")},
    "audio_config": AUDIO_CONFIG,
}
TOKENIZER_CONFIG = {
    "model_type": "mimo_audio_tokenizer",
    "d_model": 256,
    "encoder_layers": 4,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "encoder_skip_layer_id": 3,
    "encoder_causal": False,
    "encoder_attn_window_size": [-1, -1],
    "kernel_size": 3,
    "stride_size": 2,
    "avg_pooler": 2,
    "n_mels": 128,
    "nfft": 960,
    "window_size": 960,
    "hop_length": 240,
    "sampling_rate": 24000,
    "fmin": 0,
    "fmax": None,
    "rope_theta": 10000,
    "ln_type": "LayerNorm",
    "activation_function": "gelu",
    "scale_embedding": False,
    "num_quantizers": 20,
    "codebook_size": [1024, 1024, *[128] * 18],
    "decoder_layers": 4,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 256,
    "decoder_causal": True,
    "decoder_attn_window_size": [-1, -1],
    "decoder_kernel_size": 3,
    "decoder_stride_size": 2,
    "vocoder_dim": 64,
    "vocoder_intermediate_dim": 128,
    "vocoder_num_layers": 2,
    "vocoder_attention_heads": 4,
    "vocoder_attn_window_size": [40, 10],
}

UNUSED_IDS = 7
PLAIN_ADDED_TOKENS = ["<tool_call>", "</tool_call>"]
PLAIN_ADDED_TOKENS += [f"<|{name}|>" for name in ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad")]
PLAIN_ADDED_TOKENS += ["<|repo_name|>", "<|file_sep|>"]
ADDED_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"]
ADDED_TOKENS += ["<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"]
ADDED_TOKENS += ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", *PLAIN_ADDED_TOKENS, "<|sosp|>", "<|eosp|>"]
ADDED_TOKENS += ["<|empty|>", "<|Human|>", "<|SpeechLM|>", "<|sostm|>", "<|eostm|>", "<|eot|>"]

LETTERS = " abcdefghijklmnopqrstuvwxyz'"  # CTC classes 1 …; 0 is the blank


# ── text tokenizer ───────────────────────────────────────────────────────────────────────────────────────────────


def train_text_tokenizer(lines: list[str]) -> Tokenizer:
    """Byte-level BPE as Qwen2's: 256 bytes and the merges, then the 30 added tokens, then ids that stay unused."""
    tokenizer = with_qwen2_rules(Tokenizer(BPE()))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    entries = ASR_CONFIG["vocab_size"] - len(ADDED_TOKENS) - UNUSED_IDS
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=entries, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    if tokenizer.get_vocab_size() != entries:
        sys.exit(f"{WRITTEN_TEXT}: gives {tokenizer.get_vocab_size()} BPE entries, expected {entries}; add text")
    for token in ADDED_TOKENS:
        special = token not in PLAIN_ADDED_TOKENS
        add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
        add([AddedToken(token, special=special, normalized=False)])
    return tokenizer


def save_text_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token not in PLAIN_ADDED_TOKENS,
        }
        for token in ADDED_TOKENS
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "errors": "replace",
        "model_max_length": ASR_CONFIG["max_position_embeddings"],
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    write_json(folder / "tokenizer_config.json", config)


# ── speech ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Clip:
    """A spoken sentence. `waves`: (samples,) at 24 kHz, as spoken and at the other SPEEDS."""

    text: str
    spoken: Tensor
    waves: tuple[Tensor, ...]


def make_clip(text: str, wave: Tensor) -> Clip:
    return Clip(text, wave, tuple(reference.resample(wave, speed, 20) for speed in SPEEDS))


def jfk_clip() -> Clip:
    samples, rate = soundfile.read(JFK, dtype="float32")
    return make_clip(JFK_TEXT, reference.resample(torch.from_numpy(samples), rate, TOKENIZER_CONFIG["sampling_rate"]))


def espeak(sentence: str, voice: str, words_a_minute: int, pitch: int) -> Clip:
    command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "-p", str(pitch), "--stdout", sentence]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    return make_clip(sentence, reference.resample(torch.from_numpy(samples), rate, TOKENIZER_CONFIG["sampling_rate"]))


def pick_batch(clips: list[Clip], rng: random.Random) -> list[Clip]:
    """Clips of about one length, some 40 s in all. The last, JFK, fills every third batch on its own."""
    if rng.random() < 1 / 3:
        return clips[-1:] * 4
    first = rng.randrange(len(clips) - 12)
    return clips[first : first + 12]


def augment(wave: Tensor, length: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """A wave of `length` samples with the given one somewhere inside, louder or softer: with noise, and without."""
    start = rng.randint(0, length - len(wave))
    clean = F.pad(wave * 10 ** (rng.uniform(-6, 6) / 20), (start, length - start - len(wave)))
    power = wave.pow(2).mean().sqrt() * 10 ** (-rng.uniform(15, 60) / 20)
    return clean + power * torch.randn(length), clean


def augmented_mels(batch: list[Clip], d: AudioTokenizerDims, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Log-mel spectrograms of the batch, noisy and clean: (batch, frames, n_mels) each."""
    waves = [rng.choice(clip.waves) for clip in batch]
    length = max(map(len, waves)) + rng.randrange(4 * d.hop_length)
    pairs = [augment(wave, length, rng) for wave in waves]
    noisy, clean = (torch.stack([reference.log_mel(wave, d) for wave in side]) for side in zip(*pairs, strict=True))
    return noisy, clean


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────


class TinyWeights:
    """Weights by checkpoint name, for the functions of `reference`; matrices are read with relative `noise`."""

    def __init__(self, tensors: dict[str, Tensor], noise: float = 0.0) -> None:
        self.tensors, self.noise = tensors, noise

    def __call__(self, name: str) -> Tensor:
        tensor = self.tensors[name]
        return self._with_noise(tensor) if tensor.dim() == 2 else tensor

    def rows(self, name: str, ids: Tensor) -> Tensor:
        return self._with_noise(F.embedding(ids, self.tensors[name]))

    def _with_noise(self, rows: Tensor) -> Tensor:
        if not self.noise:
            return rows
        return rows + self.noise * rows.detach().pow(2).mean(-1, keepdim=True).sqrt() * torch.randn_like(rows)


def initial_weights(family: Family, d: Any) -> dict[str, Tensor]:
    """Every tensor of the family's checkpoint: norms are 1, biases small, the rest as wide as its fan-in allows."""
    tensors = {}
    for tensor in family.tensors(d, False, False):
        for source in tensor.sources:
            if tensor.role == "norm":
                tensors[source.name] = torch.ones(source.shape)
            elif tensor.role == "bias":
                tensors[source.name] = 0.01 * torch.randn(source.shape)
            else:
                fan_in = source.shape[1] * (source.shape[2] if len(source.shape) > 2 else 1)
                tensors[source.name] = torch.randn(source.shape) / fan_in**0.5
    return tensors


def rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to(torch.bfloat16) for name, tensor in tensors.items()}


def optimize(
    parameters: list[Tensor], steps: int, peak_rate: float, loss_of_step: Callable[[], Tensor], what: str
) -> None:
    """AdamW with a one-cycle learning rate."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=steps, pct_start=0.1)
    started, recent = time.monotonic(), 0.0
    for step in range(steps):
        loss = loss_of_step()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        recent = loss.item() if step == 0 else 0.95 * recent + 0.05 * loss.item()
        if (step + 1) % 50 == 0:
            seconds = time.monotonic() - started
            print(f"{what}: step {step + 1} of {steps}, loss {recent:.3f}, {seconds:.0f} s", flush=True)


# ── audio tokenizer ──────────────────────────────────────────────────────────────────────────────────────────────


def codebook(level: int) -> str:
    return f"encoder.quantizer.vq.layers.{level}._codebook.embed"


def train_audio_tokenizer(
    clips: list[Clip], d: AudioTokenizerDims, channels: int, rng: random.Random
) -> dict[str, Tensor]:
    """The encoder and its codebooks. The heads that teach it (letters, mel spectrogram) are thrown away."""
    tensors = initial_weights(mimo_tokenizer.FAMILY, d)
    weights, noisy_weights = TinyWeights(tensors), TinyWeights(tensors, WEIGHT_NOISE)
    to_letters = torch.nn.Linear(d.d_model, 1 + len(LETTERS))
    to_mel = torch.nn.Linear(d.d_model, d.stride_size * d.avg_pooler * d.n_mels)
    heads = [*to_letters.parameters(), *to_mel.parameters()]
    parameters = [tensor for name, tensor in tensors.items() if "_codebook" not in name] + heads

    def content_loss(pool: Tensor, batch: list[Clip], clean_mel: Tensor) -> Tensor:
        """pool (batch, T, d_model): the letters spoken, and the mel spectrogram without the noise."""
        letters = [torch.tensor([1 + LETTERS.index(c) for c in clip.text.lower() if c in LETTERS]) for clip in batch]
        log_probs = to_letters(pool).log_softmax(-1).transpose(0, 1)
        lengths = torch.full((len(batch),), pool.shape[1])
        target_lengths = torch.tensor([len(target) for target in letters])
        ctc = F.ctc_loss(log_probs, torch.cat(letters), lengths, target_lengths, zero_infinity=True)
        mel = to_mel(pool).reshape(len(batch), -1, d.n_mels)[:, : clean_mel.shape[1]]
        return ctc + MEL_SHARE * F.l1_loss(mel, clean_mel[:, : mel.shape[1]])

    def encode() -> Tensor:
        batch = pick_batch(clips, rng)
        mel, clean_mel = augmented_mels(batch, d, rng)
        return content_loss(reference.encoder(mel, noisy_weights, d)["tok_pool"], batch, clean_mel)

    def encode_to_codes() -> Tensor:
        batch = pick_batch(clips, rng)
        mel, clean_mel = augmented_mels(batch, d, rng)
        with torch.no_grad():
            codes = reference.residual_codes(reference.encoder(mel, weights, d)["tok_pool"], weights, channels)
        pool = reference.encoder(mel, noisy_weights, d)["tok_pool"]
        borders, rest = border_loss(pool, codes, weights)
        quantized = pool - rest.detach()  # the sum of the codebook rows; gradients pass to pool
        return content_loss(quantized, batch, clean_mel) + borders

    optimize(parameters, ENCODER_STEPS, 1e-3, encode, "encoder")
    fit_codebooks(tensors, range(channels), clips, d, rng)
    codebooks = [tensors[codebook(level)] for level in range(channels)]
    optimize(parameters + codebooks, CODEBOOK_STEPS, 7e-4, encode_to_codes, "codes")
    fit_codebooks(tensors, range(channels, d.num_quantizers), clips, d, rng)
    return rounded(tensors)


def border_loss(pool: Tensor, codes: Tensor, w: TinyWeights) -> tuple[Tensor, Tensor]:
    """How much closer than BORDER frames come to the borders of the codebook cells they shall lie in, and how unevenly
    they share the cells.

    pool (batch, T, d_model), codes (batch, T, levels) → the loss, and what the codes leave of pool.
    """
    loss, rest, n_levels = torch.zeros(()), pool, codes.shape[-1]
    for level in range(n_levels):
        rows, code = w(codebook(level)), codes[..., level]
        distances = torch.cdist(rows, rows).detach()
        score = 2 * rest @ rows.T - rows.pow(2).sum(-1)  # (batch, T, codebook size)
        own = F.one_hot(code, len(rows)).bool()
        border = (score.gather(-1, code[..., None]) - score) / (2 * distances[code] + own)  # to each half-space
        short = F.relu(1 - border.masked_fill(own, torch.inf).amin(-1) / BORDER).mean()
        loss = loss + 2 * (1 - level / n_levels) * short  # a wrong code spoils all after it
        share = (5 * score / (BORDER * distances.mean())).softmax(-1).mean((0, 1))  # of each cell, nearly hard
        loss = loss + EVENNESS * (share * share.clamp(min=1e-9).log()).sum()
        rest = rest - F.embedding(code, rows)
    return loss + COMMITMENT * rest.pow(2).mean(), rest


def fit_codebooks(
    tensors: dict[str, Tensor], levels: range, clips: list[Clip], d: AudioTokenizerDims, rng: random.Random
) -> None:
    """k-means of what the levels before leave of tok_pool, one of `levels` after the other."""
    weights = TinyWeights(tensors)
    with torch.no_grad():
        mels = [augmented_mels([clip], d, rng)[0] for clip in [*clips * 3, *clips[-1:] * 20]]
        rest = torch.cat([reference.encoder(mel, weights, d)["tok_pool"][0] for mel in mels])  # (frames, d_model)
        for level in range(levels.stop):
            if level in levels:
                tensors[codebook(level)] = k_means(rest, d.codebook_size[level]).to(torch.bfloat16).float()
            rest = rest - tensors[codebook(level)][nearest(rest, tensors[codebook(level)])]


def nearest(x: Tensor, rows: Tensor) -> Tensor:
    """x (n, columns) → the index of the nearest row for each, (n,)."""
    return (2 * x @ rows.T - rows.pow(2).sum(-1)).argmax(-1)


def k_means(x: Tensor, size: int) -> Tensor:
    """x (n, columns) → (size, columns); a row that no point is nearest to starts again at some point."""
    rows = x[torch.randperm(len(x))[:size]].clone()
    for _ in range(K_MEANS_STEPS):
        code = nearest(x, rows)
        counts = torch.bincount(code, minlength=size)
        rows = torch.zeros_like(rows).index_add_(0, code, x) / counts.clamp(min=1)[:, None]
        empty = counts == 0
        rows[empty] = x[torch.randint(len(x), (int(empty.sum()),))]
    return rows


# ── speech LM ────────────────────────────────────────────────────────────────────────────────────────────────────


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

    def embeds(self, text: Tensor, codes: Tensor, w: reference.Weights) -> Tensor:
        """Text ids (…, G), codes (…, G, group_size, channels) → inputs embeds (…, G, hidden_size)."""
        speech = text == self.empty
        return reference.audio_features(codes, speech, w, self.d) + reference.text_embeds(text, speech, w)


def train_speech_lm(
    clips: list[Clip], codes: list[list[Tensor]], prompts: Prompts, rng: random.Random
) -> dict[str, Tensor]:
    """`codes`: for each clip its codes (frames, channels) in many versions, the last as spoken."""
    d = prompts.d
    tensors = initial_weights(mimo_asr.FAMILY, d)
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
        mels = [augmented_mels([clip], d, rng)[0][0] for _ in range(n)] + [reference.log_mel(clip.spoken, d)]
        with torch.no_grad():
            for mel in mels:
                yield reference.residual_codes(reference.encoder(mel, w, d)["tok_pool"], w, channels)

    return [list(versions(clip, 60 if clip is clips[-1] else 8)) for clip in clips]


def transcribe(codes: Tensor, folder: Path) -> str:
    """What the speech LM in `folder` hears in codes (frames, channels), greedily, in 64 tokens at most."""
    checkpoint, text = open_checkpoint(str(folder)), TextTokenizer.from_checkpoint(folder, ASR_CONFIG["vocab_size"])
    d = mimo_asr.dimensions(checkpoint.config)
    prompt = build_prompt(codes.numpy(), text.encode, d)
    stages = reference.decode(reference.CheckpointWeights(checkpoint, torch.float32), prompt, d, text, 64)
    return text.transcript(stages[GREEDY].tolist())


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_asr(tensors: dict[str, Tensor], folder: Path) -> None:
    """Two shards with half of the tensors each, and their index."""
    write_json(folder / "config.json", ASR_CONFIG)
    names = sorted(tensors)
    files = {
        f"model-0000{part}-of-00002.safetensors": shard
        for part, shard in ((1, names[: len(names) // 2]), (2, names[len(names) // 2 :]))
    }
    for file, shard in files.items():
        save_file({name: tensors[name] for name in shard}, folder / file, {"format": "pt"})
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {name: file for file, shard in files.items() for name in shard},
    }
    write_json(folder / "model.safetensors.index.json", index)


def save_audio_tokenizer(tensors: dict[str, Tensor], folder: Path) -> None:
    """With the codebooks' `inited` flags, training buffers that a conversion leaves out."""
    write_json(folder / "config.json", TOKENIZER_CONFIG)
    codebooks = [name for name in tensors if "_codebook" in name]
    flags = {name.replace(".embed", ".inited"): torch.ones(1, dtype=torch.bfloat16) for name in codebooks}
    save_file(tensors | flags, folder / "model.safetensors", {"format": "pt"})


def read_weights(folder: Path) -> dict[str, Tensor]:
    checkpoint = open_checkpoint(str(folder))
    read = reference.CheckpointWeights(checkpoint, torch.float32)
    return {name: read(name) for name in checkpoint.tensors}


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny checkpoint pair.")
    parser.add_argument("--out", type=Path, required=True, help="folder for asr/ and tokenizer/")
    out = parser.parse_args().out
    if not shutil.which("espeak-ng"):
        sys.exit("espeak-ng is not installed: it speaks the sentences to learn from (apt install espeak-ng)")
    torch.set_num_threads(2)
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    started = time.monotonic()
    for name in ("asr", "tokenizer"):
        (out / name).mkdir(parents=True, exist_ok=True)

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
    prompts = Prompts(TextTokenizer(text_tokenizer, sha256=""), lm_dims)
    save_asr(train_speech_lm(clips, codes, prompts, rng), out / "asr")

    transcripts = [transcribe(of_clip[-1], out / "asr") for of_clip in codes]
    right = [transcript == clip.text for transcript, clip in zip(transcripts, clips, strict=True)]
    print(f"JFK: {transcripts[-1]}")
    print(f"{sum(right)} of {len(right)} clips word for word; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
