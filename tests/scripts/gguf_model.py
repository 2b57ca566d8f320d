"""What transformers makes of a GGUF file, and of the folder saved of it, as JSON, for tests/it/gguf.rs.

Run: python tests/scripts/gguf_model.py FILE FOLDER < {"texts": [...], "messages": [...]}
Exit code 77: this Python has no gguf.
Prints for both: the ids of the texts, the ids of the conversation in the chat template, the logits at its last position.
"""

import json
import os
import sys

try:
    import gguf  # noqa: F401, transformers reads the file with it
except ModuleNotFoundError:
    sys.exit(77)
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

path, folder = sys.argv[1:]
asked = json.load(sys.stdin)


def seen(place, **of_gguf):
    tokenizer = AutoTokenizer.from_pretrained(place, **of_gguf)
    if of_gguf:
        # transformers 5.23 has no entry for tokenizer.ggml.pre = "smollm" and takes GPT-2's; digits stand alone in it.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **of_gguf).eval()
    chat = tokenizer.apply_chat_template(asked["messages"], add_generation_prompt=True, tokenize=False)
    chat = tokenizer(chat, add_special_tokens=False).input_ids
    with torch.no_grad():
        logits = model(torch.tensor([chat])).logits[0, -1].tolist()
    return {"ids": [tokenizer(text).input_ids for text in asked["texts"]], "chat": chat, "logits": logits}


print(json.dumps({
    "gguf": seen(os.path.dirname(path), gguf_file=os.path.basename(path)),
    "folder": seen(folder),
}))
