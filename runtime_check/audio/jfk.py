"""The bundled JFK clip: 11.0 s, 16 kHz mono; a US government recording, public domain."""

from pathlib import Path

JFK = Path(__file__).parent / "data" / "jfk.wav"
JFK_SHA256 = "59dfb9a4acb36fe2a2affc14bacbee2920ff435cb13cc314a08c13f66ba7860e"
JFK_TEXT = (
    "And so, my fellow Americans, ask not what your country can do for you. Ask what you can do for your country."
)
