"""MiMo-Audio as a speaker: clips → codes, prompt → groups → text and codes, codes → wave."""

import time
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from mimo_convert.listener import Phase
from mimo_families.mimo_tokenizer.decoder.harness import SpeechDecoder
from mimo_families.mimo_tokenizer.decoder.streaming import Cached
from mimo_families.mimo_tokenizer.stages import CODES
from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import Wave, resample
from runtime_check.choices import SPEECH
from runtime_check.run.speech.tasks import Codes, Forced, Measured, Reply, Sampling, Speaker, SpeechTask

from ..segments import Ids
from ..speech.forcing import MOST_COMPARED, chosen, force, groups_of
from ..speech.generation import Group, clean_text, generate, generation_of, streamed_codes
from ..speech.stages import HISTORY, SPEECH_STAGES
from ..stages import PROMPT
from ..system import MimoAudioSystem
from .settings import settings_of, told
from .table import MimoAudioTask


class MimoAudioSpeaker:
    """A speech LM with its audio tokenizer, and the tokenizer's decoder."""

    stages = SPEECH_STAGES

    def __init__(self, system: MimoAudioSystem) -> None:
        self.system, self.lm, self.tokenizer = system, system.lm, system.tokenizer
        self.rate = self.tokenizer.d.sampling_rate

    def encode(self, clip: Clip) -> Codes:
        """The codes of a clip, (frames, channels), of the features of the whole clip."""
        with self.system.session.timed("tokenize_s"):
            wave = resample(clip.wave, clip.rate, self.rate)
            codes: Codes = self.tokenizer.encode_segments(wave, self.lm.d.channels)[CODES]
        return codes

    def reply(self, task: SpeechTask, prompt: Ids, sampling: Sampling, hear: Callable[[Wave], object] | None) -> Reply:
        """Generate groups behind a prompt, (1 + channels, T); with `hear`, each wave is given to it as its codes come.
        Raises InputError as `generate`, and for a reply in speech where the tokenizer has no decoder."""
        assert isinstance(task, MimoAudioTask)
        settings = settings_of(task, sampling, self.lm.text)
        if task.reply == SPEECH:
            _ = self.decoder  # before long work
        groups: list[Group] = []
        begin = time.perf_counter()
        coming = self._followed(generate(self.lm, prompt, settings), groups, task.reply == SPEECH)
        if hear:
            self._stream(coming, prompt, hear)
        for _ in coming:  # of which a stream may need no more
            pass
        self.system.session.timings["speak_s"] = time.perf_counter() - begin
        found = generation_of(prompt, groups, self.lm.text, self.lm.d)
        return Reply(
            text=found.text,
            codes=found.codes,
            token_ids=tuple(found.text_ids.tolist()),
            prompt_groups=self.lm.length(prompt),
            groups=len(groups),
            ended=groups[-1].text_id in settings.stops,
            dropped_forbidden=found.dropped_forbidden,
            history=found.history,
            stages={PROMPT: prompt, **chosen(groups)},
            sampling=told(settings, task.reply == SPEECH),
        )

    def force(self, reply: Reply) -> Forced:
        """Every stage of the groups of a reply, of the first MOST_COMPARED, given behind its prompt."""
        groups = groups_of(reply.stages)[:MOST_COMPARED]
        with self.system.session.timed("proof_s"):
            stages = chosen(groups) | force(self.lm, reply.stages[PROMPT], groups)
        if len(groups) == reply.groups:
            stages[HISTORY] = reply.history
        return Forced(stages, clean_text([group.text_id for group in groups[:-1]], self.lm.text))

    def decode(self, codes: Codes) -> Wave:
        """The wave of codes, (frames, channels) → (samples,); without codes a second of silence. Raises InputError for
        a tokenizer without a decoder."""
        with self.system.session.timed("decode_s"):
            return self.decoder.decode(codes)

    def measured(self) -> Measured:
        """What the session's runs took."""
        session, models = self.system.session, [member.model for member in self.system.members]
        return Measured(dict(session.timings), session.memory(models), session.products())

    @cached_property
    def decoder(self) -> SpeechDecoder:
        """The tokenizer's decoder. Raises InputError if it has none."""
        return SpeechDecoder(self.tokenizer.model, self.tokenizer.weights, self.tokenizer.backend)

    def _followed(self, coming: Iterator[Group], groups: list[Group], speaks: bool) -> Iterator[Group]:
        """The groups that come, which are added to `groups`, with their progress in seconds of audio, or in tokens."""
        seconds = self.lm.d.group_size / self.tokenizer.d.frames_per_second
        progress = Phase("speak" if speaks else "write", unit="s of audio" if speaks else "tokens")
        for group in coming:
            groups.append(group)
            progress.advance(1 if not speaks else seconds if group.text_id == self.lm.empty_id else 0)
            yield group
        progress.end()

    def _stream(self, coming: Iterator[Group], prompt: Ids, hear: Callable[[Wave], object]) -> None:
        """Give `hear` the wave of the groups that come; without codes the silence that `decode` gives."""
        stream, n_channels, said = Cached(self.decoder), self.lm.d.channels, 0
        for codes in streamed_codes(coming, prompt, self.lm.text, self.lm.d):
            hear(stream.push(codes))
            said += len(codes)
        none = np.zeros((0, n_channels), np.int32)
        hear(stream.push(none, last=True) if said else self.decoder.decode(none))


def open_speaker(system: MimoAudioSystem) -> Speaker:
    """The open files of a system as a speaker."""
    return MimoAudioSpeaker(system)
