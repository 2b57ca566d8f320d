"""Next-token training in PyTorch eager: forward, backward and an AdamW step over all positions of random ids. On a GPU in
bf16 weights, gradients and moments are bf16 too: eager PyTorch without autocast."""

import torch
from transformers import LlamaForCausalLM

from workload import Workload


def main():
    workload = Workload("train", __doc__, [("--fused", "AdamW in one kernel, which PyTorch leaves off by default")])
    model = workload.model(LlamaForCausalLM).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=workload.args.fused or None)
    seconds = []
    for _ in range(workload.warm_up + workload.repetitions):
        ids = workload.ids(workload.rows, workload.length)
        start = workload.now()
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        value = loss.item()
        seconds.append(workload.now() - start)
        assert value == value, "the loss is not a number"
    workload.report(seconds[workload.warm_up :], workload.rows * workload.length)


main()
