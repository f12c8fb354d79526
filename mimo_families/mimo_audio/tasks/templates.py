"""Templates of prompts. Upstream draws one of a list at random; a reproducible run pins the first.

Source: github.com/XiaomiMiMo/MiMo-Audio, `templates.py`.
"""

import re

HAN = re.compile("[一-鿿]")  # U+4E00 to U+9FFF

TTS_CHINESE = (
    "请将这段文字转换为语音",
    "帮我把这个文本读出来",
    "将这些文字生成音频",
    "请朗读这段内容",
    "把这段话转换成语音文件",
    "生成这段文字的语音版本",
    "请用语音播报这些内容",
    "将文本转换为可听的音频",
    "帮我朗读这段文字",
    "把这些内容念出来",
)
TTS_ENGLISH = (
    "Please convert this text to speech",
    "Turn this writing into audio",
    "Generate speech from this text",
    "Read this content out loud",
    "Convert these words to voice",
    "Create an audio version of this text",
    "Please vocalize this content",
    "Turn this text into audible format",
    "Help me convert this writing to speech",
    "Make this text into spoken audio",
)

# What the system says of the style, and of the voice that a clip behind it has.
IN_STYLE = "你需要根据指定的风格指令和文本内容来生成语音。"
IN_VOICE = "你需要根据指定的风格指令和文本内容来生成和语音prompt具有相同音色的语音。你的音色应该是："
VOICE = "Your voice should be:"


def tts_template(text: str) -> str:
    """The pinned template that asks for `text`: Chinese for a text with a Chinese character."""
    return (TTS_CHINESE if HAN.search(text) else TTS_ENGLISH)[0]
