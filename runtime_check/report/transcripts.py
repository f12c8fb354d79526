"""Transcripts as text, SubRip subtitles, JSON lines and tab-separated values; unprintable characters are escaped.

Each format is a function of a transcript that yields texts, as soon as the pieces are there.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from quantize.quoting import escaped
from runtime_check.run.transcription.transcribe import Piece, Transcript

TSV_HEAD = "audio\tpiece_begin\tpiece_end\ttext\n"


def as_text(transcript: Transcript) -> Iterator[str]:
    """The words, a line a clip."""
    yield from transcript.join(escaped(piece.text) for piece in transcript.pieces)
    yield "\n"


def as_srt(transcript: Transcript) -> Iterator[str]:
    """SubRip subtitles: a block a piece that has words; times are those of the pieces."""
    with_words = (piece for piece in transcript.pieces if piece.text)
    for number, piece in enumerate(with_words, 1):
        yield f"{number}\n{clock(piece.begin)} --> {clock(piece.end)}\n{escaped(piece.text)}\n\n"


def as_tsv(transcript: Transcript) -> Iterator[str]:
    """A line a piece: audio file, begin and end of the piece in seconds, text."""
    for piece in transcript.pieces:
        words = (escaped(str(transcript.audio)), f"{piece.begin:.3f}", f"{piece.end:.3f}", escaped(piece.text))
        yield "\t".join(words) + "\n"


def as_json(transcript: Transcript) -> Iterator[str]:
    """A line a clip: an object with `audio`, `language`, `heard_language`, `text`, and `pieces` with `begin`, `end`,
    `text` and `language`."""
    pieces = [
        Piece(round(piece.begin, 3), round(piece.end, 3), escaped(piece.text), escaped(piece.language))
        for piece in transcript.pieces
    ]
    about = {"audio": escaped(str(transcript.audio)), "language": transcript.language}
    about["heard_language"] = escaped(transcript.heard_language)
    whole = about | {"text": escaped(transcript.text), "pieces": [asdict(piece) for piece in pieces]}
    yield f"{json.dumps(whole, ensure_ascii=False)}\n"


def clock(seconds: float) -> str:
    """A time as SubRip writes it, such as 01:02:03,450."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"


FORMATS: Mapping[str, Callable[[Transcript], Iterator[str]]] = {
    "text": as_text, "srt": as_srt, "json": as_json, "tsv": as_tsv,
}  # fmt: skip
HEADS = {"tsv": TSV_HEAD}  # before the first transcript
