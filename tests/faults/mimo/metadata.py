"""Defects of the metadata: sizes, rope, types of keys."""

from gguf import GGUFValueType as V

from ..bases import LM, Q4, RANDOM, TOK
from ..defect import Defect
from ..edits import edit, put

HALF_HEADS = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 64}


METADATA = [
    Defect("wrong rope theta", LM, put("mimo_asr.llm.rope_theta", 10000.0),
        checkpoint="key mimo_asr.llm.rope_theta is 10000.0, the source's is 640000.0", run="layer_00: cos_",
        against="key mimo_asr.llm.rope_theta is 10000.0, the source's is 640000.0"),
    Defect("rope theta of the local transformer that of the audio tokenizer", LM,
        put("mimo_asr.audio.rope_theta", 10000.0),
        checkpoint="key mimo_asr.audio.rope_theta is 10000.0, the source's is 640000.0",
        run="prefill_audio_features: cos_",
        against="key mimo_asr.audio.rope_theta is 10000.0, the source's is 640000.0"),
    Defect("wrong norm epsilon", LM, put("mimo_asr.llm.rms_norm_eps", 1e-5),
        checkpoint="key mimo_asr.llm.rms_norm_eps is 9.999999747378752e-06, the source's is 9.999999974752427e-07",
        against="key mimo_asr.llm.rms_norm_eps is 9.999999747378752e-06, the source's is 9.999999974752427e-07"),
    Defect("wrong head count, at twice the head_dim", LM,
        edit(lambda f: [f.put(f"mimo_asr.llm.{k}", v) for k, v in HALF_HEADS.items()]),
        checkpoint="key mimo_asr.llm.num_heads is 4, the source's is 2", run="layer_00: cos_",
        against="key mimo_asr.llm.num_heads is 4, the source's is 2"),
    Defect("wrong head count", LM, put("mimo_asr.llm.num_heads", 4),
        static="shapes: tensor model.layers.0.attn.q.weight is 256×256",
        opening="tensor model.layers.0.attn.q.weight has shape (256, 256)"),
    Defect("head_dim lost, where it is not 128", RANDOM.format("f16"), put("mimo_asr.llm.head_dim", None),
        static="shapes: tensor model.layers.0.attn.q.weight is 128×256",
        opening="tensor model.layers.0.attn.q.weight has shape (128, 256)"),
    Defect("zeroemb ids off", LM, put("mimo_asr.audio.speech_zeroemb.2", 127),
        static="metadata: mimo_asr.audio.speech_zeroemb.2 is 127",
        checkpoint="key mimo_asr.audio.speech_zeroemb.2 is 127, the source's is 128",
        run="codebooks of (1024, 1024, 128, 128, 128, 128, 128, 128) rows",
        against="key mimo_asr.audio.speech_zeroemb.2 is 127, the source's is 128"),
    Defect("a size missing", LM, put("mimo_asr.llm.hidden_size", None),
        static="metadata: key mimo_asr.llm.hidden_size is missing", opening="key mimo_asr.llm.hidden_size is missing"),
    Defect("delay pattern of a model without delays", LM, put("mimo_asr.audio.delay_pattern", "0-0-0-0-0-0-0-0"),
        checkpoint="key mimo_asr.audio.delay_pattern is '0-0-0-0-0-0-0-0', the source's is '0-1-2-3-4-5-6-7'",
        against="key mimo_asr.audio.delay_pattern is '0-0-0-0-0-0-0-0', the source's is '0-1-2-3-4-5-6-7'"),
    Defect("metadata type wrong: a number as text", LM, put("mimo_asr.llm.num_layers", "2", V.STRING),
        static="metadata: key mimo_asr.llm.num_layers is '2', string", opening="key mimo_asr.llm.num_layers is '2'"),
    Defect("metadata type wrong: u64 for u32", LM, put("mimo_asr.audio.group_size", 4, V.UINT64),
        static="metadata: key mimo_asr.audio.group_size is 4, uint64"),
    Defect("general.file_type of another type", Q4, put("general.file_type", 2),
        static="types: tensor llm.embed.weight is q4_k"),
    Defect("a recipe that lies", Q4, put("mimo_convert.recipe", "lm_head=q6_k", V.STRING),
        static="types: tensor llm.lm_head.weight is q4_k"),
    Defect("a recipe that exceeds the size it was chosen for", Q4, put("mimo_convert.target", "1MB", V.STRING),
        static="target: key mimo_convert.target is 1MB; expected at most 1,000,000 bytes"),
    Defect("skip connection at the wrong layer", TOK, put("mimo_tok.skip_layer_id", 2),
        checkpoint="key mimo_tok.skip_layer_id is 2, the source's is 3", run="tok_xfmr: cos_",
        against="key mimo_tok.skip_layer_id is 2, the source's is 3"),
    Defect("hop length of another front end", TOK, put("mimo_tok.hop_length", 160),
        checkpoint="key mimo_tok.hop_length is 160, the source's is 240", run="tok_mel: shape",
        against="key mimo_tok.hop_length is 160, the source's is 240"),
    Defect("window of another front end", TOK, put("mimo_tok.window_size", 400),
        checkpoint="key mimo_tok.window_size is 400, the source's is 960", run="tok_mel: cos_",
        against="key mimo_tok.window_size is 400, the source's is 960"),
    Defect("rope theta of the encoder that of the speech LM", TOK, put("mimo_tok.rope_theta", 640000.0),
        checkpoint="key mimo_tok.rope_theta is 640000.0, the source's is 10000.0", run="tok_xfmr: cos_",
        against="key mimo_tok.rope_theta is 640000.0, the source's is 10000.0"),
]  # fmt: skip
