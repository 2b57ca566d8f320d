"""Loads a model folder with transformers and prints, as JSON, what tests/it/model.rs compares.

Run: python tests/scripts/load.py FOLDER TEXT
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

folder, text = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
ids = tokenizer(text).input_ids
architecture = json.load(open(f"{folder}/config.json"))["architectures"][0]
with torch.no_grad():
    if architecture == "LlamaForSequenceClassification":
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        # The pooled score is the last token's; every prefix gives the score of one token.
        values = [model(torch.tensor([ids[: n + 1]])).logits[0].tolist() for n in range(len(ids))]
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        values = model(torch.tensor([ids])).logits[0].tolist()
print(
    json.dumps(
        {
            "ids": ids,
            "values": values,
            "bos": tokenizer.bos_token_id,
            "eos": tokenizer.eos_token_id,
            "generation_eos": getattr(getattr(model, "generation_config", None), "eos_token_id", None),
        }
    )
)
