"""Sounds of clips, as they were heard in a condition."""

from collections.abc import Mapping

from runtime_check.audio.wave import Sound

Heard = tuple[str, str]  # the SHA-256 of a clip, and a condition as it is written
NO_SOUNDS: Mapping[Heard, Sound] = {}
