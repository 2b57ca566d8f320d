"""What transformers and PEFT make of model folders of any family, for tests/it/families.rs.

family_check.py < [{"do": …, "folder": FOLDER, "rows": [[id, …], …], …}, …]
Prints as JSON a list with the numbers of every task, each row computed alone in float32 with eager attention, row after row:
  logits  of every token by the model in FOLDER
  scores  of every token by the classifier of one label in FOLDER, which scores the last token of what it is given
  adapted logits with the adapter that PEFT reads from "adapter" on FOLDER
  make    the same of an adapter of PEFT's own with random values on the modules "targets", which it saves in "adapter"
Exit code 77: this Python has no peft.
"""

import json
import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"

import torch

try:
    from peft import LoraConfig, PeftModel, get_peft_model
except ImportError:
    sys.exit(77)
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils import logging

torch.set_num_threads(1)
logging.set_verbosity_error()
logging.disable_progress_bar()


def load(kind, folder, **more):
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **more)


def adapted(model, task):
    """A new adapter, saved where the task says; B is not left at 0, where nothing would be seen."""
    config = LoraConfig(r=3, lora_alpha=5, target_modules=task["targets"], task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(task["adapter"])
    return model


@torch.no_grad()
def seen(task):
    rows = [torch.tensor([row]) for row in task["rows"]]
    if task["do"] == "scores":
        model = load(AutoModelForSequenceClassification, task["folder"], num_labels=1).eval()
        return [model(row[:, : end + 1]).logits.item() for row in rows for end in range(row.shape[1])]
    model = load(AutoModelForCausalLM, task["folder"])
    if task["do"] == "adapted":
        model = PeftModel.from_pretrained(model, task["adapter"])
    elif task["do"] == "make":
        model = adapted(model, task)
    model = model.eval()
    return torch.cat([model(row, use_cache=False).logits[0] for row in rows]).flatten().tolist()


print(json.dumps([seen(task) for task in json.load(sys.stdin)]))
