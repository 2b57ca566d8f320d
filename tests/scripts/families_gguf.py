"""The models of host/tests/families as GGUF files, as llama.cpp's convert_hf_to_gguf.py writes them, for tests/it/families.rs.

families_gguf.py FAMILIES OUT: writes OUT/NAME.gguf for each NAME below, in F32, and prints as JSON a list of {"name": NAME, "file":
its path, "rows": [[id, …], …], "logits": those of every token of every row by transformers in float32, each row alone, "prompt":
[id, …], whose likeliest continuation is clear}.
Exit code 77: this Python has no gguf.

What llama.cpp takes for granted and a file cannot say, no model here does otherwise. Where one of FAMILIES does, `change` makes
another of the same kind, with weights drawn as families.py draws them. Tensors get the names of gguf-py's own table.
Sources: llama.cpp's conversion/{base,llama,granite,smollm,qwen,olmo,phi,gemma}.py, 2026-10.
"""

import json
import math
import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"

try:
    import gguf
except ModuleNotFoundError:
    sys.exit(77)
import torch
from safetensors.torch import load_file

import families

# The architecture whose file has llama's rotation of neighbouring channels, and so rows of W_q and W_k in another order.
INTERLEAVED = ("llama", "granite", "smollm3")
GEMMA3 = dict(
    num_hidden_layers=7,
    layer_types=["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
    # Scores are divided by the root of the head size.
    query_pre_attn_scalar=8,
)
FILES = {
    "llama": {},
    "llama-biased": {},
    "llama3": {},
    "llama-linear": {},
    # Mistral's files are llama's, and have no window. All files here are in F32.
    "mistral": dict(architecture="llama", change=dict(sliding_window=None)),
    "qwen2": {},
    "qwen3": {},
    # Every fourth layer does not rotate.
    "smollm3": dict(change=dict(no_rope_layers=[1, 1, 1, 0], no_rope_layer_interval=4)),
    "olmo2": {},
    "phi3": {},
    "phi3-window": {},
    # llama.cpp takes the long factors for all rows where it makes room for a long one, 256 tokens at least.
    "phi3-longrope": dict(
        change=dict(
            max_position_embeddings=1024,
            original_max_position_embeddings=256,
            rope_parameters=families.LONGROPE | dict(original_max_position_embeddings=256),
        )
    ),
    # The base of the rotation is 10000, and scores are divided by the root of the head size.
    "gemma2": dict(change=dict(rope_parameters=families.default(10_000.0), query_pre_attn_scalar=8)),
    # Every sixth layer sees everything. The base of the others' rotation is in newer files alone, and else 10000.
    "gemma3": dict(change=GEMMA3),
    "gemma3-old": dict(
        of="gemma3",
        change=GEMMA3
        | dict(rope_parameters=families.gemma3_rope(families.default(3000.0), families.default(10_000.0))),
    ),
    "granite": {},
}


def permuted(weight, heads):
    """Rows in the order of neighbouring channels: LlamaModel.permute."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def llama3_factors(config, rope):
    """LlamaModel.generate_extra_tensors."""
    base, size = rope["rope_theta"], config["head_dim"]
    original, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    factors = []
    for j in range(0, size, 2):
        wavelength = 2 * math.pi * base ** (j / size)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return torch.tensor(factors)


def describe(writer, architecture, config, old):
    """The metadata; `old` leaves out what newer converters added."""
    rope = config["rope_parameters"]
    local = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if architecture not in ("phi3", "granite") and "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if architecture != "gemma2":
        writer.add_rope_freq_base(rope["rope_theta"])
    if architecture in INTERLEAVED:
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_dimension_count(config.get("head_dim") or hidden // heads)
    if architecture == "phi3":
        original = config["original_max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_dimension_count(hidden // heads)
        writer.add_sliding_window(config["sliding_window"] or 0)
        if rope["rope_type"] == "longrope":
            ratio = config["max_position_embeddings"] / original
            writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(ratio) / math.log(original)))
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if architecture in ("gemma2", "gemma3"):
        writer.add_sliding_window(config["sliding_window"])
    if architecture == "gemma3" and not old:
        writer.add_float32("gemma3.rope.freq_base_swa", local["rope_theta"])
    if architecture == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])


def add_tokenizer(writer, config):
    """As many tokens as the model knows: control tokens, a line break, words."""
    count = config["vocab_size"]
    tokens = ["<unk>", "<s>", "</s>", "<0x0A>"] + [f"\u2581w{id}" for id in range(4, count)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, gguf.TokenType.BYTE]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * count)
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * (count - len(kinds)))
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def add_tensors(writer, architecture, model, config):
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        if architecture in INTERLEAVED and ".q_proj." in name:
            weight = permuted(weight, config["num_attention_heads"])
        if architecture in INTERLEAVED and ".k_proj." in name:
            weight = permuted(weight, config["num_key_value_heads"])
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            weight = weight + 1
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), weight.float().contiguous().numpy())
    rope = config["rope_parameters"]
    if rope.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config, rope).numpy())
    if rope.get("rope_type") == "longrope":
        for which in ("long", "short"):
            factors = torch.tensor(rope[f"{which}_factor"])
            writer.add_tensor(f"rope_factors_{which}.weight", factors.numpy())


def rows_of(golden):
    ids, ends = golden["ids"], golden["offsets"].tolist()
    return [ids[start:end].long() for start, end in zip(ends, ends[1:])]


def write(name, file, fixtures, out):
    family = families.FAMILIES[file.get("of", name)]
    if "change" in file:
        changed = dict(config=family["config"] | file["change"], dtype=torch.float32)
        model, rows, _ = families.make(name, family | changed)
        logits = families.all_logits(model.eval(), rows)
    else:
        folder = os.path.join(fixtures, name)
        model, golden = families.load(folder), load_file(os.path.join(folder, "golden.safetensors"))
        rows, logits = rows_of(golden), golden["logits"]
    prompt = rows[0][: families.PROMPTS[0]]
    config = model.config.to_dict()
    architecture = file.get("architecture", family["model_type"].removesuffix("_text"))
    path = os.path.join(out, f"{name}.gguf")
    writer = gguf.GGUFWriter(path, architecture)
    describe(writer, architecture, config, name.endswith("-old"))
    add_tokenizer(writer, config)
    add_tensors(writer, architecture, model, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    rows = [row.tolist() for row in rows]
    return dict(name=name, file=path, rows=rows, logits=logits.flatten().tolist(), prompt=prompt.tolist())


if __name__ == "__main__":
    fixtures, out = sys.argv[1:]
    print(json.dumps([write(name, file, fixtures, out) for name, file in FILES.items()]))
