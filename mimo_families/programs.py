"""Programs that people may try the files in, for families to name."""

from runtime_check.run.system import Program

LLAMA_CPP = Program("llama.cpp", "https://github.com/ggml-org/llama.cpp")
OLLAMA = Program("Ollama", "https://github.com/ollama/ollama")
CRISPASR = Program("CrispASR", "https://github.com/CrispStrobe/CrispASR")
LM_STUDIO = Program("LM Studio", "https://lmstudio.ai")

# Those that load an architecture once llama.cpp has it.
BUILT_ON_LLAMA_CPP = (LLAMA_CPP, OLLAMA, LM_STUDIO)
