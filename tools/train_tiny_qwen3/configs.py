"""Sizes of the tiny model, as its config.json has them; keys as in the published one."""

from typing import Any

CHUNK_FRAMES = 100  # of mel that the convolutions see at once
CHUNK_TOKENS = 13  # that they make of a whole chunk
AUDIO: dict[str, Any] = {
    "model_type": "qwen3_asr_audio_encoder",
    "d_model": 256,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "num_mel_bins": 128,
    "output_dim": 256,
    "downsample_hidden_size": 32,
    "n_window": CHUNK_FRAMES // 2,
    "n_window_infer": 800,
    "conv_chunksize": 500,
    "max_source_positions": 1500,
    "activation_function": "gelu",
    "scale_embedding": False,
    "dropout": 0,
    "attention_dropout": 0,
    "activation_dropout": 0,
}
TEXT: dict[str, Any] = {
    "model_type": "qwen3_asr_text",
    "vocab_size": 640,
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 256,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "rope_scaling": {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True},
    "attention_bias": False,
    "attention_dropout": 0.0,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "use_cache": True,
}
