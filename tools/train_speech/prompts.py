"""What the speech LM reads: prompts that ask for speech with the groups that follow, and those of recognition."""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mimo_families.mimo_audio.layout import SpeechLMDims
from mimo_families.mimo_audio.segments import EMPTY, EOSTM, SOSTM, lay_out
from mimo_families.mimo_audio.tasks.prompts import speak
from mimo_families.mimo_audio.tasks.templates import TTS_ENGLISH
from runtime_check.run.speech.tasks import Asked
from runtime_check.text.tokenizer import TextTokenizer
from tools.train_tiny.speech_lm import Prompts

from .clips import Said, in_groups

WRONG_IN_RECOGNITION = 0.3  # at most this share of the codes of recognition is replaced by chance
LANGUAGES = ("english", "auto")  # of the transcriptions: codes as they are, and with wrong ones


class Example(NamedTuple):
    """Text ids (G,) and blocks (G, group_size, channels) of a prompt and the speech behind it, and the text ids that
    follow the last group of the prompt and each behind it, (S + 1,) for S groups of speech."""

    text: Tensor
    blocks: Tensor
    follow: Tensor

    @property
    def n_prompt(self) -> int:
        """Groups of the prompt."""
        return len(self.text) - len(self.follow) + 1


def speaking(clip: Said, prompts: Prompts) -> Example:
    """The prompt that asks for a clip's text, and its codes."""
    d, encode = prompts.d, prompts.encode
    prompt = torch.from_numpy(lay_out(speak(Asked(text=clip.text)), encode, d)).long()
    codes = in_groups(clip, d.group_size).codes[:, : d.channels]
    blocks = codes.unflatten(0, (-1, d.group_size))
    empty, end = encode(EMPTY), encode(EOSTM)
    text = torch.cat([prompt[0, :: d.group_size], torch.tensor(empty * len(blocks))])
    written = prompt[1:].T.unflatten(0, (-1, d.group_size))
    return Example(text, torch.cat([written, blocks]), torch.tensor(empty * len(blocks) + end))


def with_wrong(blocks: Tensor, most: float, d: SpeechLMDims, rng: random.Random) -> Tensor:
    """Blocks (…, channels) with a share of at most `most` of their codes replaced by chance; zeroemb ids stay."""
    zero = torch.tensor(d.speech_zeroemb)
    wrong = (torch.rand(blocks.shape) < rng.uniform(0, most)) & (blocks != zero)
    return torch.where(wrong, (torch.rand(blocks.shape) * zero).long(), blocks)


def recognizing(
    heard: Sequence[tuple[str, Tensor]], prompts: Prompts, rng: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Text ids (G,) and blocks of transcriptions of texts with codes, (T, channels): prompt and answer."""
    for text, codes in heard:
        for language, most in zip(LANGUAGES, (0.0, WRONG_IN_RECOGNITION), strict=True):
            ids, blocks = prompts.prompt(with_wrong(codes, most, prompts.d, rng), language)
            tag = "<english>" if language == "auto" else ""
            answer = torch.tensor(prompts.encode(f"{tag} {text}<|im_end|>"))
            yield torch.cat([ids, answer]), torch.cat([blocks, prompts.no_codes(len(answer))])


def unread_rows(read: Iterable[Tensor], text: TextTokenizer) -> list[int]:
    """Ids of the prompt that asks for speech which are not among `read`, text ids that recognition reads."""
    known = set(torch.cat(list(read)).tolist())
    asked = {text.id_of(SOSTM), *text.encode(f"{TTS_ENGLISH[0]}:")}
    return sorted(asked - known)
