"""Write clips that the tests hear: `python -m tools.train_tiny_qwen3.clips --out tests/data/tiny_qwen3`.

Sentences, and passages longer than 8 s, so that the audio tower has two or three windows, each as Ogg Vorbis, and the
manifest with their texts.
"""

import argparse
import json
from pathlib import Path

import soundfile

from .model import RATE
from .speech import LANGUAGES, PASSAGES, spoken_clip

NAMED = {  # file → language, first sentence, how many in a row
    "english": ("English", 0, 1),
    "german": ("German", 1, 1),
    "german_short": ("German", 10, 1),
    "english_passage": PASSAGES[0],
    "german_passage": PASSAGES[1],
    "english_long": PASSAGES[2],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the clips that the tests of the tiny Qwen3-ASR hear.")
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, (language, first, n) in NAMED.items():
        path, voices = LANGUAGES[language]
        sentences = path.read_text(encoding="utf-8").splitlines()[first : first + n]
        clip = spoken_clip(sentences, language, voices[0])
        soundfile.write(out / f"{name}.ogg", clip.wave.numpy(), RATE)
        lines.append(json.dumps({"audio": f"{name}.ogg", "text": clip.text}, ensure_ascii=False))
    (out / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
