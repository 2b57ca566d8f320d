"""Golden values of tests/it/model.rs: what transformers says about the model folder given as the argument.

Run: python tests/scripts/stories260k.py ../shared/models/stories260k
"""

import sys

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = LlamaForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
prompt = tokenizer("Once upon a time").input_ids
with torch.no_grad():
    row = model.generate(torch.tensor([prompt]), max_new_tokens=56, do_sample=False)
    logits = model(row).logits[0]
print("prompt", prompt)
print("without special tokens", tokenizer("Once upon a time", add_special_tokens=False).input_ids)
print("text", repr(tokenizer.decode(row[0], skip_special_tokens=True)))
for position in (0, 4, 30):
    print("logits", position, [round(logits[position, i].item(), 5) for i in (0, 2, 261, 432, 511)])
for temperature in (1.0, 0.7):
    logprobs = torch.log_softmax(logits / temperature, -1)
    response = range(len(prompt), len(prompt) + 12)
    print("logprobs", temperature, [round(logprobs[i - 1, row[0, i]].item(), 6) for i in response])
