"""The loop over groups: text id, block of codes, next group; and what a generation says.

A group is a text id and a block of codes, (group_size, channels). Prompts, histories and generated groups have the form
of `prompt.py`: (1 + channels, T) ids, T a multiple of the group size.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime_check.text.tokenizer import TextTokenizer

from ..layout import NO_TEXT, SpeechLMDims
from ..prompt import check_room
from ..segments import Ids
from .delays import Place
from .sampler import LOCAL, Noise, Sampler, Scores, choose

if TYPE_CHECKING:
    from runtime_check.ggml.decoder import Arrays

    from ..harness import SpeechLM
    from .patch_decoder import PatchDecoder

Block = npt.NDArray[np.int32]  # (group_size, channels)
Codes = npt.NDArray[np.int32]  # (frames, channels)
MOST_GROUPS = 8192  # of a prompt and what follows it, also where the context is longer
ROOM = 256  # groups that the KV cache has room for at first
BEGIN, END = "<|sostm|>", "<|eostm|>"  # of speech
MARKERS = ("<|empty|>", "<|eot|>", END)


class Settings(NamedTuple):
    """How groups are generated: the samplers of text ids and of codes, the ids that end a generation, the numbers of
    new groups, and the seed of all draws."""

    text: Sampler
    codes: Sampler = LOCAL
    stops: frozenset[int] = frozenset()
    max_new: int = MOST_GROUPS
    min_new: int = 0
    seed: int = 0


class Group(NamedTuple):
    """A generated group; `dropped` counts the draws whose filters left only forbidden ids."""

    text_id: int
    block: Block
    dropped: int = 0


@dataclass(frozen=True)
class Generation:
    """What was generated, and how it is read.

    `text_ids`, (N,), and `blocks`, (N, group_size, channels), are all new groups, the stop group included; `text` and
    `codes`, (frames, channels), what they say; `dropped_forbidden` counts draws whose filters left only forbidden ids;
    `history`, (1 + channels, T), is the prompt with all new groups: the next prompt is appended to it.
    """

    text_ids: npt.NDArray[np.int32]
    blocks: npt.NDArray[np.int32]
    text: str
    codes: Codes
    dropped_forbidden: int
    history: Ids


def generate(lm: "SpeechLM", prompt: Ids, settings: Settings) -> Iterator[Group]:
    """Generate groups behind a prompt, (1 + channels, T), and yield each as it comes.

    The last one is that with a stop id, or the last that `max_new` or the context has room for. Raises InputError for
    a file without speech generation, or a prompt that leaves no room.
    """
    d, patch, noise = lm.d, lm.patch_decoder(), Noise(settings.seed)
    n_prompt, context = lm.length(prompt), min(MOST_GROUPS, d.max_position_embeddings)
    check_room(n_prompt, d)
    most = min(n_prompt + settings.max_new, context)
    decoder = lm.decoder(min(n_prompt + ROOM, most))
    out = decoder.read(prompt)
    for n in range(n_prompt, most):
        may_stop = n >= n_prompt + settings.min_new
        group = next_group(lm, patch, out, settings, frozenset() if may_stop else settings.stops, noise)
        yield group
        if n + 1 == most or (group.text_id in settings.stops and n + 1 >= n_prompt + settings.min_new):
            return
        if decoder.n_past == decoder.size:
            decoder.enlarge(min(2 * decoder.size, most))
        out = decoder.read_one(group_ids([group], d))


def next_group(
    lm: "SpeechLM", patch: "PatchDecoder", out: "Arrays", settings: Settings, forbidden: frozenset[int], noise: Noise
) -> Group:
    """The group behind a position, from its HIDDEN and LOGITS: `forbidden` are text ids."""
    text = choose(out["logits"].reshape(-1), settings.text, forbidden, noise)
    if text.id != lm.empty_id:
        return Group(text.id, zero_block(lm.d), int(text.dropped))
    dropped = int(text.dropped)

    def choose_code(place: Place, scores: Scores) -> int:
        nonlocal dropped
        code = choose(scores, settings.codes, [lm.d.speech_zeroemb[place.channel]], noise)
        dropped += code.dropped
        return code.id

    block = patch.decode(out["hidden"].reshape(-1), choose_code).block
    return Group(text.id, block, dropped)


def zero_block(d: SpeechLMDims) -> Block:
    """The block of a group that is text: every code at its codebook's zeroemb id."""
    return np.tile(np.array(d.speech_zeroemb, np.int32), (d.group_size, 1))


def group_ids(groups: Sequence[Group], d: SpeechLMDims) -> Ids:
    """Groups in the form of a prompt: (1 + channels, len(groups) × group_size)."""
    ids = np.full((1 + d.channels, len(groups) * d.group_size), NO_TEXT, np.int32)
    ids[0, :: d.group_size] = [group.text_id for group in groups]
    ids[1:] = np.concatenate([group.block for group in groups]).T
    return ids


def generation_of(prompt: Ids, groups: Sequence[Group], text: TextTokenizer, d: SpeechLMDims) -> Generation:
    """What the groups behind a prompt say: text and codes are those of all groups but the last one, which ended the
    generation (also where `max_new` did)."""
    ids = [group.text_id for group in groups[:-1]]
    return Generation(
        text_ids=np.array([group.text_id for group in groups], np.int32),
        blocks=np.stack([group.block for group in groups]),
        text=clean_text(ids, text),
        codes=spoken_codes(groups[:-1], text, d),
        dropped_forbidden=sum(group.dropped for group in groups),
        history=np.concatenate([prompt, group_ids(groups, d)], axis=1),
    )


def clean_text(ids: Sequence[int], text: TextTokenizer) -> str:
    """The text of generated ids: decoded with special tokens, stripped, without the markers of speech."""
    said = text.tokenizer.decode(list(ids), skip_special_tokens=False).strip()
    for marker in MARKERS:
        said = said.replace(marker, "")
    return said


def spoken_codes(groups: Sequence[Group], text: TextTokenizer, d: SpeechLMDims) -> Codes:
    """The codes to be heard, (frames, channels): of the groups behind the first `<|sostm|>`, if there is one, up to the
    first `<|eostm|>`; frames whose first code is the zeroemb id are left out."""
    ids = [group.text_id for group in groups]
    begin, end = text.id_of(BEGIN), text.id_of(END)
    first = ids.index(begin) + 1 if begin in ids else 0
    last = ids.index(end) if end in ids else len(ids)
    blocks = [group.block for group in groups[first:last]]
    frames = np.concatenate([np.zeros((0, d.channels), np.int32), *blocks])
    return frames[frames[:, 0] != d.speech_zeroemb[0]]


def streamed_codes(groups: Iterable[Group], prompt: Ids, text: TextTokenizer, d: SpeechLMDims) -> Iterator[Codes]:
    """The same codes while groups come, some frames at a time, each group when the next one is there.

    Behind a prompt that does not end with `<|sostm|>` they are held until it comes, and to the end if it does not.
    """
    held: list[Group] = []
    begin, end = text.id_of(BEGIN), text.id_of(END)
    speaks, ended = prompt[0, -d.group_size] == begin, False
    last: Group | None = None
    for group in groups:
        ended = ended or (last is not None and last.text_id == end)
        if last is not None and not ended:
            if not speaks and last.text_id == begin:
                speaks, held = True, []
            held.append(last)
            if speaks and len(frames := spoken_codes(held, text, d)):
                yield frames
                held = []
        last = group
    if not speaks and len(frames := spoken_codes(held, text, d)):
        yield frames
