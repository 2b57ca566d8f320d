"""Tiny random models of every family that a model folder may hold, and what transformers computes with them.

families.py OUT: writes OUT/NAME for each NAME below. host/tests/families is its output with transformers 5.17.0, torch 2.11.0
(CPU, one thread) and safetensors 0.8.0, and the same versions write the same bytes. Needs no network and no other file.

OUT/NAME/config.json, model.safetensors, generation_config.json: as `save_pretrained` writes them (qwen2 in shards, mistral in
bf16). config.4.json: the same configuration in the words of transformers 4. golden.safetensors, computed in float32 with eager
attention, each row alone, without padding:
  ids, offsets, prompt_lens  int32  three rows end to end, where each begins (and the end of the last), their prompts' lengths
  logits, hidden             f32    of every token of every row; `hidden` is the last hidden state after the final norm
  logprobs                   f32    of every response token, row after row
  grad.NAME                  f32    of -sum(logprobs) over all rows, for every parameter NAME of model.safetensors
  greedy                     int32  the 12 tokens that argmax over the whole forward adds to the prompt of row 0
phi3-longrope has all of these but `greedy` once more as long.*, for a row that is longer than original_max_position_embeddings.

Prints, for each family, by how much its logits change where one feature of it is left out or done otherwise, and fails where
that is not more than 0.01.
"""

import copy
import itertools
import json
import os
import shutil
import sys
import tempfile
import zlib

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

torch.set_num_threads(1)
logging.set_verbosity_error()
logging.disable_progress_bar()

COMMON = dict(
    vocab_size=48,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-3,
    tie_word_embeddings=False,
    bos_token_id=1,
    eos_token_id=2,
)
LENGTHS, PROMPTS = (12, 7, 9), (3, 2, 4)


def default(theta):
    return dict(rope_type="default", rope_theta=theta)


def without(*names):
    """The module of each name does nothing."""

    def change(model):
        for layer in model.model.layers:
            for name in names:
                owner, _, last = name.rpartition(".")
                setattr(layer.get_submodule(owner), last, torch.nn.Identity())

    return change


def no_biases(model):
    for name, weight in model.named_parameters():
        if name.endswith(".bias"):
            weight.zero_()


def per_head_norms(model):
    """OLMo 2 with each head normed on its own, which is Qwen 3's way."""
    for layer in model.model.layers:
        for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm):

            def forward(x, norm=norm, size=layer.self_attn.head_dim):
                heads = x.unflatten(-1, (-1, size))
                scale = torch.rsqrt(heads.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
                return norm.weight * (heads * scale).flatten(-2)

            norm.forward = forward


def up_before_gate(model):
    for layer in model.model.layers:
        weight = layer.mlp.gate_up_proj.weight
        weight.copy_(weight.roll(weight.shape[0] // 2, 0))


def interleaved_rotation(model):
    """The rotation of neighbouring pairs (GPT-J) in place of halves."""
    for layer in model.model.layers:
        attention = layer.self_attn
        for weight in (attention.q_proj.weight, attention.k_proj.weight):
            heads = weight.unflatten(0, (-1, attention.head_dim))
            order = torch.arange(attention.head_dim).reshape(-1, 2).T.flatten()
            weight.copy_(heads[:, order].flatten(0, 1))


def unscaled_embedding(model):
    model.model.embed_tokens.embed_scale.fill_(1.0)


def no_attention_factor(model):
    model.model.rotary_emb.attention_scaling = 1.0


LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=50.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
LONGROPE = dict(
    rope_type="longrope",
    rope_theta=200.0,
    short_factor=[1.0, 1.25, 1.5, 2.0],
    long_factor=[1.5, 2.5, 4.0, 6.0],
    original_max_position_embeddings=12,
)
GEMMA = dict(
    hidden_size=24,
    head_dim=8,
    query_pre_attn_scalar=12,
    sliding_window=4,
    num_hidden_layers=4,
    pad_token_id=0,
    bos_token_id=2,
    eos_token_id=1,
    tie_word_embeddings=True,
)
OLD_GEMMA = dict(
    layer_types=None,
    tie_word_embeddings=None,
    use_bidirectional_attention=None,
    cache_implementation="hybrid",
)


def gemma3_rope(full, sliding):
    return {"full_attention": full, "sliding_attention": sliding}


# NAME: model_type, the configuration; then, where there are any, `std` (of the weights, 0.3), `old` (what transformers 4
# writes otherwise; None: not at all), `spelling` (how rope_scaling calls its type) and the `features`, each a change of
# the configuration or a function that changes the loaded model.
FAMILIES = {
    "llama": dict(
        model_type="llama",
        config=dict(rope_parameters=default(500.0)),
        features={
            "rope_theta": dict(rope_parameters=default(10000.0)),
            "rotation by halves": interleaved_rotation,
            "rms_norm_eps": dict(rms_norm_eps=1e-6),
        },
    ),
    "llama-biased": dict(
        model_type="llama",
        config=dict(rope_parameters=default(500.0), attention_bias=True, mlp_bias=True),
        features={"biases": no_biases},
    ),
    "llama3": dict(
        model_type="llama",
        config=dict(rope_parameters=LLAMA3, head_dim=8, tie_word_embeddings=True),
        features={
            "scaling": dict(rope_parameters=default(50.0)),
            "smooth middle": dict(rope_parameters=LLAMA3 | dict(high_freq_factor=1.0001)),
        },
    ),
    "llama-linear": dict(
        model_type="llama",
        config=dict(rope_parameters=dict(rope_type="linear", rope_theta=100.0, factor=4.0)),
        old=dict(head_dim=None),
        spelling="type",
        features={"scaling": dict(rope_parameters=default(100.0))},
    ),
    "mistral": dict(
        model_type="mistral",
        config=dict(rope_parameters=default(100.0), sliding_window=4),
        dtype=torch.bfloat16,
        old=dict(head_dim=None),
        features={
            "window": dict(sliding_window=None),
            "window not 5": dict(sliding_window=5),
            "window not 3": dict(sliding_window=3),
        },
    ),
    "qwen2": dict(
        model_type="qwen2",
        config=dict(rope_parameters=default(2000.0), use_sliding_window=False, sliding_window=4, max_window_layers=1),
        shard="12KB",
        old=dict(layer_types=None, sliding_window=4),
        features={
            "biases": no_biases,
            "no window": dict(use_sliding_window=True, sliding_window=4, layer_types=["full_attention", "sliding_attention"]),
        },
    ),
    "qwen3": dict(
        model_type="qwen3",
        config=dict(
            rope_parameters=default(2000.0), hidden_size=24, head_dim=8, max_window_layers=2, tie_word_embeddings=True
        ),
        old=dict(layer_types=None),
        features={
            "q and k norms": without("self_attn.q_norm", "self_attn.k_norm"),
            "q norm": without("self_attn.q_norm"),
            "k norm": without("self_attn.k_norm"),
        },
    ),
    "smollm3": dict(
        model_type="smollm3",
        config=dict(
            rope_parameters=default(300.0),
            num_hidden_layers=4,
            no_rope_layers=[1, 0, 1, 0],
            no_rope_layer_interval=2,
            pad_token_id=0,
            tie_word_embeddings=True,
        ),
        old=dict(tie_word_embeddings=None),
        features={
            "layers without rotation": dict(no_rope_layers=[1, 1, 1, 1]),
            "layers with rotation": dict(no_rope_layers=[0, 0, 0, 0]),
            "not the other layers": dict(no_rope_layers=[0, 1, 0, 1]),
        },
    ),
    "olmo2": dict(
        model_type="olmo2",
        config=dict(rope_parameters=default(300.0), pad_token_id=0),
        features={
            "q and k norms": without("self_attn.q_norm", "self_attn.k_norm"),
            "norms over all heads": per_head_norms,
            "norm after attention": without("post_attention_layernorm"),
            "norm after mlp": without("post_feedforward_layernorm"),
        },
    ),
    "phi3": dict(
        model_type="phi3",
        config=dict(
            rope_parameters=default(300.0), sliding_window=None, original_max_position_embeddings=64, pad_token_id=0
        ),
        features={"gate before up": up_before_gate},
    ),
    "phi3-window": dict(
        model_type="phi3",
        config=dict(rope_parameters=default(300.0), sliding_window=4, original_max_position_embeddings=64, pad_token_id=0),
        old=dict(partial_rotary_factor=None),
        features={"window": dict(sliding_window=None), "window not 5": dict(sliding_window=5)},
    ),
    "phi3-longrope": dict(
        model_type="phi3",
        config=dict(
            rope_parameters=LONGROPE,
            num_attention_heads=2,
            num_key_value_heads=1,
            sliding_window=None,
            max_position_embeddings=32,
            original_max_position_embeddings=12,
            pad_token_id=0,
        ),
        spelling="type",
        long=20,
        features={
            "scaling": dict(rope_parameters=default(200.0)),
            "short factors": dict(rope_parameters=LONGROPE | dict(short_factor=LONGROPE["long_factor"])),
            "attention factor": no_attention_factor,
            "long factors (long row)": dict(rope_parameters=LONGROPE | dict(long_factor=LONGROPE["short_factor"])),
        },
    ),
    "gemma2": dict(
        model_type="gemma2",
        config=GEMMA
        | dict(rope_parameters=default(300.0), attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
        old=OLD_GEMMA | dict(hidden_act="gelu_pytorch_tanh"),
        features={
            "attention softcap": dict(attn_logit_softcapping=None),
            "final softcap": dict(final_logit_softcapping=None),
            "window": dict(sliding_window=64),
            "global layers": dict(layer_types=["sliding_attention"] * 4),
            "layers not the other way": dict(layer_types=["full_attention", "sliding_attention"] * 2),
            "query_pre_attn_scalar": dict(query_pre_attn_scalar=8),
            "embedding scale": unscaled_embedding,
            "tanh gelu (printed only)": dict(hidden_activation="gelu"),
        },
    ),
    "gemma3": dict(
        model_type="gemma3_text",
        config=GEMMA
        | dict(
            rope_parameters=gemma3_rope(dict(rope_type="linear", rope_theta=3000.0, factor=8.0), default(100.0)),
            layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        ),
        old=OLD_GEMMA | dict(_sliding_window_pattern=None, sliding_window_pattern=3),
        features={
            "window": dict(sliding_window=64),
            "window not 5": dict(sliding_window=5),
            "global layer": dict(layer_types=["sliding_attention"] * 4),
            "linear factor": dict(rope_parameters=gemma3_rope(default(3000.0), default(100.0))),
            "local theta": dict(
                rope_parameters=gemma3_rope(dict(rope_type="linear", rope_theta=3000.0, factor=8.0), default(3000.0))
            ),
            "q and k norms": without("self_attn.q_norm", "self_attn.k_norm"),
            "query_pre_attn_scalar": dict(query_pre_attn_scalar=8),
            "embedding scale": unscaled_embedding,
        },
    ),
    "granite": dict(
        model_type="granite",
        config=dict(
            rope_parameters=default(300.0),
            pad_token_id=0,
            tie_word_embeddings=True,
            embedding_multiplier=6.0,
            attention_multiplier=0.3,
            residual_multiplier=0.4,
            logits_scaling=1.5,
        ),
        std=0.4,
        features={
            "embedding_multiplier": dict(embedding_multiplier=1.0),
            "attention_multiplier": dict(attention_multiplier=0.5),
            "residual_multiplier": dict(residual_multiplier=1.0),
            "logits_scaling": dict(logits_scaling=1.0),
        },
    ),
}


def fill(model, family, generator):
    """Random weights; nothing keeps the value that it has before training."""
    std = family.get("std", 0.3)
    around = 0.0 if family["model_type"].startswith("gemma") else 1.0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                weight.copy_(around + 0.2 * noise)
            else:
                weight.copy_(std * noise)


def old_config(config, family):
    """What transformers 4 wrote for this config.json of transformers 5."""
    config = dict(config)
    rope = config.pop("rope_parameters")
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    rope = dict(rope)
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    kind = rope.pop("rope_type")
    if "original_max_position_embeddings" in config:
        rope.pop("original_max_position_embeddings", None)
    config["rope_scaling"] = None if kind == "default" else rope | {family.get("spelling", "rope_type"): kind}
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.3"
    if config.get("pad_token_id") is None:
        config.pop("pad_token_id", None)
    for key, value in family.get("old", {}).items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    return config


def load(folder, **changes):
    """The model in `folder` in float32, where `changes` are made in its configuration."""
    config = AutoConfig.from_pretrained(folder)
    if changes:
        config = type(config)(**(config.to_dict() | changes))
    return AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def draw(lengths, generator):
    return [torch.randint(3, COMMON["vocab_size"], (length,), generator=generator) for length in lengths]


def golden(model, rows, prompts, prefix=""):
    model.zero_grad()
    logits, hidden, logprobs = [], [], []
    for row, prompt in zip(rows, prompts):
        states = model.model(row[None], use_cache=False).last_hidden_state[0]
        found = model(row[None], use_cache=False).logits[0]
        taken = torch.log_softmax(found, -1)[prompt - 1 : -1].gather(1, row[prompt:, None])[:, 0]
        (-taken.sum()).backward()
        hidden.append(states.detach())
        logits.append(found.detach())
        logprobs.append(taken.detach())
    values = {
        "ids": torch.cat(rows).int(),
        "offsets": torch.tensor([0] + [len(row) for row in rows]).cumsum(0).int(),
        "prompt_lens": torch.tensor(prompts).int(),
        "logits": torch.cat(logits),
        "hidden": torch.cat(hidden),
        "logprobs": torch.cat(logprobs),
    }
    for name, weight in model.named_parameters():
        values[f"grad.{name}"] = weight.grad.clone()
    return {prefix + name: value.contiguous() for name, value in values.items()}


@torch.no_grad()
def all_logits(model, rows):
    return torch.cat([model(row[None], use_cache=False).logits[0] for row in rows])


@torch.no_grad()
def greedy(model, prompt, count=12):
    """The tokens, and the smallest lead of one over the next best."""
    row, lead = prompt, float("inf")
    for _ in range(count):
        best = model(row[None], use_cache=False).logits[0, -1].topk(2)
        lead = min(lead, (best.values[0] - best.values[1]).item())
        row = torch.cat([row, best.indices[:1]])
    return row[len(prompt) :].int(), lead


def make(name, family):
    """The first model whose greedy tokens are certain (no other is near), of several kinds and none that ends a text."""
    config = AutoConfig.for_model(family["model_type"], **(COMMON | family["config"]))
    for draft in itertools.count():
        generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {draft}".encode()))
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        fill(model, family, generator)
        model = model.to(family.get("dtype", torch.float32))
        rows = draw(LENGTHS, generator)
        long = draw([family["long"]], generator) if "long" in family else []
        tokens, lead = greedy(copy.deepcopy(model).float().eval(), rows[0][: PROMPTS[0]])
        if lead > 0.02 and len(tokens.unique()) >= 5 and tokens.min() >= 3:
            return model, rows, long


def write(name, family, out):
    model, rows, long = make(name, family)
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **({"max_shard_size": family["shard"]} if "shard" in family else {}))
    with open(os.path.join(folder, "config.json")) as file:
        old = old_config(json.load(file), family)
    with open(os.path.join(folder, "config.4.json"), "w") as file:
        file.write(json.dumps(old, indent=2, sort_keys=True) + "\n")

    model = load(folder)
    values = golden(model, rows, PROMPTS)
    if long:
        values |= golden(model, long, [5], "long.")
    values["greedy"], lead = greedy(model, rows[0][: PROMPTS[0]])
    save_file(values, os.path.join(folder, "golden.safetensors"))

    print(f"{name}: logits {values['logits'].std():.2f}, greedy {values['greedy'].tolist()} leads by {lead:.4f}")
    seen = all_logits(model, rows + long)
    assert torch.equal(seen[: len(values["logits"])], values["logits"])
    with tempfile.TemporaryDirectory() as scratch:
        for file in os.listdir(folder):
            if file.startswith("model"):
                shutil.copy(os.path.join(folder, file), scratch)
        shutil.copy(os.path.join(folder, "config.4.json"), os.path.join(scratch, "config.json"))
        assert torch.equal(all_logits(load(scratch), rows + long), seen), "config.4.json says another model"
    assert torch.equal(all_logits(load(folder, use_cache=False), rows + long), seen)
    for feature, change in family["features"].items():
        if callable(change):
            other = load(folder)
            with torch.no_grad():
                change(other)
        else:
            other = load(folder, **change)
        difference = (all_logits(other, rows + long) - seen).abs().max().item()
        print(f"  {feature}: {difference:.4f}")
        assert difference > 1e-2 or "printed only" in feature, feature


if __name__ == "__main__":
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    for name, family in FAMILIES.items():
        write(name, family, out)
