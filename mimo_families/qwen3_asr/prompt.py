"""Build the prompt: (positions,) ids, with a token in the place of each row of audio embeddings; and parse the
response: `language NAME<asr_text>TEXT`, or TEXT alone where the prompt named the language.

Harness and reference build their prompts here, each with its own text tokenizer. Source of the parser: the qwen-asr
package, with its guards against repetitions.
"""

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quantize.errors import InputError
from runtime_check.run.system import AUTO_LANGUAGE, Task
from runtime_check.run.transcription.transcriber import Said

from .front_end import LLAMA_CPP
from .sizes import Qwen3ASRDims

NAMES = (  # noqa: SIM905, a list of thirty strings reads worse
    "Chinese English Cantonese Arabic German French Spanish Portuguese Indonesian Italian Korean Russian Thai "
    "Vietnamese Japanese Turkish Hindi Malay Dutch Swedish Danish Finnish Polish Czech Filipino Persian Greek "
    "Romanian Hungarian Macedonian"
).split()
LANGUAGES = {name.lower(): name for name in NAMES}  # as options spell them → as the prompt does
TAG, AUDIO = "<asr_text>", "<|audio_pad|>"  # what a transcript follows; the place of an audio token
BEFORE_CONTEXT, BEHIND_CONTEXT = "<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n<|audio_start|>"
BEHIND_AUDIO = "<|audio_end|><|im_end|>\n<|im_start|>assistant\n"

LONGEST_RUN = 20  # of equal characters that stay as they are
COPIES = 20  # of a pattern, from which on one of them is kept
RUN = re.compile(rf"(.)\1{{{LONGEST_RUN},}}", re.DOTALL)
REPEATED = re.compile(rf"(.{{1,20}}?)\1{{{COPIES - 1},}}", re.DOTALL)
SHORTEST = 2 * COPIES  # characters from a repetition to the end
NAMES_LANGUAGE, NO_LANGUAGE = "language ", "language none"

Ids = npt.NDArray[np.int32]
Encode = Callable[[str], list[int]]


def build_prompt(n_tokens: int, encode: Encode, d: Qwen3ASRDims, task: Task) -> Ids:
    """Build the prompt for `n_tokens` audio tokens: (positions,) int32.

    `task` gives the context, hints in the place of the system's text, and the language, in which the response then is
    to be; llama.cpp ends a context with a newline. Raises InputError for a context with audio tokens, or if the prompt
    exceeds the model's context.
    """
    context = f"{task.context}\n" if task.context and task.runtime == LLAMA_CPP else task.context
    before = encode(f"{BEFORE_CONTEXT}{context}{BEHIND_CONTEXT}")
    [audio] = encode(AUDIO)
    if audio in before:
        raise InputError("--context", f"holds {AUDIO}, which stands for audio", expected="words that the clip may have")
    ids = [*before, *[audio] * n_tokens, *encode(BEHIND_AUDIO + forced(task))]
    check_room(len(ids), d)
    return np.array(ids, np.int32)


def forced(task: Task) -> str:
    """The begin of the response that forces the task's language; empty for automatic detection."""
    return "" if task.language == AUTO_LANGUAGE else head(LANGUAGES[task.language])


def head(name: str) -> str:
    """What the response begins with that names the language."""
    return f"language {name}{TAG}"


def check_room(n_positions: int, d: Qwen3ASRDims) -> None:
    """Raise InputError unless a prompt of `n_positions` leaves room for a response."""
    if n_positions >= d.max_position_embeddings:
        raise InputError(
            "audio", f"needs a prompt of {n_positions} positions", expected=f"fewer than {d.max_position_embeddings}",
            todo="use a shorter clip, or a shorter --context",
        )  # fmt: skip


# ── the response ──────────────────────────────────────────────────────────────────────────────────────────────────────


def parse(response: str, task: Task) -> Said:
    """Parse a response without special tokens, as that to `task`."""
    response = collapse(response.strip())
    if not response:
        return Said("")
    if task.language != AUTO_LANGUAGE:
        return Said(response, LANGUAGES[task.language])
    before, tag, text = response.partition(TAG)
    if not tag:
        return Said(response)
    return Said(text.strip(), "" if NO_LANGUAGE in before.lower() else language_in(before))


def language_in(head: str) -> str:
    """The language in the first line of `head` that names one, capitalised; empty if none does."""
    lines = (line.strip() for line in head.splitlines())
    named = (line[len(NAMES_LANGUAGE) :].strip() for line in lines if line.lower().startswith(NAMES_LANGUAGE))
    return next(named, "").capitalize()


def collapse(text: str) -> str:
    """Collapse repetitions that do not end by themselves: runs of more than LONGEST_RUN equal characters, then COPIES
    or more copies of up to 20 characters."""
    text = RUN.sub(r"\1", text)
    last = len(text) - SHORTEST  # a repetition that begins later is too short to be one
    return REPEATED.sub(lambda found: found[1] if found.start() <= last else found[0], text)
