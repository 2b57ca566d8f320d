"""What PEFT makes of an adapter's folder, and an adapter of PEFT's own.

adapter.py FOLDER IDS [OUT]: prints as JSON `values`, the logits (or scores) at every token of IDS (a JSON list) with the
adapter in FOLDER on the model that its configuration names. With OUT it then changes every adapter weight with a fixed
rule, saves the adapter there by PEFT itself, and prints the new values as `changed`. Exit code 77: this Python has no peft.
"""

import json
import sys

import torch
try:
    from peft import PeftModel
except ImportError:
    sys.exit(77)
from transformers import AutoModelForCausalLM, LlamaForSequenceClassification

folder, ids = sys.argv[1], torch.tensor([json.loads(sys.argv[2])])
with open(f"{folder}/adapter_config.json") as file:
    config = json.load(file)
base = config["base_model_name_or_path"]
scores = config["task_type"] == "SEQ_CLS"
if scores:
    model = LlamaForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
else:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, folder).eval()


def values():
    with torch.no_grad():
        if scores:
            # The classifier reads one token; the head at all of them is what a token reward model is.
            inner = model.base_model.model
            return inner.score(inner.model(ids).last_hidden_state)[0].tolist()
        return model(ids).logits[0].tolist()


found = {"values": values()}
if len(sys.argv) > 3:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.mul_(0.5).add_(0.01)
    model.save_pretrained(sys.argv[3])
    found["changed"] = values()
json.dump(found, sys.stdout)
