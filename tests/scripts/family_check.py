"""What transformers makes of a model folder, or of a PEFT adapter on one, at the rows of a golden.safetensors (families.py).

family_check.py FOLDER GOLDEN: prints as JSON `difference`, the largest absolute difference of a logit from GOLDEN's, in float32
with eager attention, each row alone (and so for `long`, the row of long.*, where GOLDEN has one).
family_check.py FOLDER GOLDEN ADAPTER: prints as JSON `values`, the logits at every token of GOLDEN's rows, row after row, with
the adapter in ADAPTER on the model in FOLDER. Exit code 77: this Python has no peft.
"""

import json
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

folder, golden = sys.argv[1], load_file(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
if len(sys.argv) > 3:
    try:
        from peft import PeftModel
    except ImportError:
        sys.exit(77)
    model = PeftModel.from_pretrained(model, sys.argv[3])
model.eval()


def logits(prefix=""):
    ids, offsets = golden[f"{prefix}ids"].long(), golden[f"{prefix}offsets"].tolist()
    with torch.no_grad():
        rows = [model(ids[start:end][None]).logits[0] for start, end in zip(offsets, offsets[1:])]
    return torch.cat(rows)


def difference(prefix=""):
    return (logits(prefix) - golden[f"{prefix}logits"]).abs().max().item()


if len(sys.argv) > 3:
    found = {"values": logits().tolist()}
else:
    found = {"difference": difference()}
    if "long.ids" in golden:
        found["long"] = difference("long.")
print(json.dumps(found))
