"""Choices of command-line options, importable without the code that they select."""

AUTO, ON, OFF = "auto", "on", "off"
REPACK = (AUTO, ON, OFF)
OWN, GGML = "own", "ggml"
PRODUCTS = (AUTO, OWN, GGML)
REFERENCE_DTYPES = ("f32", "bf16")
TRANSCRIPTS = ("text", "srt", "json", "tsv")  # formats
FULL = "full"
ATTENTION = (AUTO, FULL)  # of an audio encoder whose attention is within windows
COMPARED = ROWS, STAGES, BOTH = "rows", "stages", "both"  # what of a file is compared with a reference
REPLIES = TEXT, SPEECH = "text", "speech"  # of a task
TASKS = TRANSCRIBE, SPEAK, UNDERSTAND, DIALOGUE, CHAT, CONTINUE = (
    "transcribe", "speak", "understand", "dialogue", "chat", "continue",
)  # fmt: skip
MOST_SEED = (1 << 63) - 1
