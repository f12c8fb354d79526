"""Qwen3-ASR as llama.cpp loads it: a text model, and its `mmproj` file with the audio encoder."""
