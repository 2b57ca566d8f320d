"""Sampling with transformers' generate: what follows the prompts is sampled at temperature 1, KV cache, no EOS."""

import torch
from transformers import GenerationConfig, LlamaForCausalLM

from workload import Workload


def main():
    workload = Workload("generate", __doc__)
    model = workload.model(LlamaForCausalLM).eval()
    prompt = workload.prompt
    new = workload.length - prompt
    config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_new_tokens=new,
        max_new_tokens=new,
        eos_token_id=None,
        pad_token_id=0,
    )
    seconds = []
    for _ in range(workload.warm_up + workload.repetitions):
        ids = workload.ids(workload.rows, prompt)
        start = workload.now()
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
        seconds.append(workload.now() - start)
        assert out.shape == (workload.rows, workload.length), out.shape
    workload.report(seconds[workload.warm_up :], workload.rows * new)


main()
