"""One PPO iteration of TRL's experimental PPOTrainer: prompts, what follows them sampled, four models of one
shape (policy, reference, reward model, critic), two epochs over the rollout as one minibatch, random ids and weights."""

import contextlib
import os
import sys
import tempfile

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import trl
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer

from workload import Workload


class Clock(TrainerCallback):
    """The time between the ends of iterations, which is all of an iteration's work."""

    def __init__(self, now):
        self.now, self.marks = now, []

    def on_train_begin(self, *_, **__):
        self.marks.append(self.now())

    def on_step_end(self, *_, **__):
        self.marks.append(self.now())

    def seconds(self):
        return [end - start for start, end in zip(self.marks, self.marks[1:])]


def tokenizer(vocabulary):
    """Any words, with padding and end outside the model's vocabulary: what is sampled is never one of them."""
    words = {f"w{i}": i for i in range(vocabulary)} | {"<pad>": vocabulary, "<eos>": vocabulary + 1}
    tokens = Tokenizer(WordLevel(words, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="<eos>")


def main():
    workload = Workload("ppo", __doc__)
    prompt = workload.prompt
    new = workload.length - prompt
    iterations = workload.warm_up + workload.repetitions
    prompts = workload.ids(workload.rows * iterations, prompt).tolist()
    policy = workload.model(LlamaForCausalLM)
    reference = workload.model(LlamaForCausalLM)
    reference.load_state_dict(policy.state_dict())
    reward_model, critic = (workload.model(LlamaForSequenceClassification, num_labels=1) for _ in range(2))
    critic.load_state_dict(reward_model.state_dict())
    clock = Clock(workload.now)
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            output_dir=folder,
            use_cpu=not workload.on_gpu,
            bf16=workload.dtype == "bf16",
            gradient_checkpointing=False,
            seed=workload.seed,
            total_episodes=workload.rows * iterations,
            per_device_train_batch_size=workload.rows,
            gradient_accumulation_steps=1,
            num_mini_batches=1,
            num_ppo_epochs=2,
            local_rollout_forward_batch_size=workload.rows,
            response_length=new,
            stop_token=None,
            temperature=1.0,
            num_sample_generations=0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=10**9,
        )
        trainer = PPOTrainer(
            args=config,
            processing_class=tokenizer(workload.shape[0]),
            model=policy,
            ref_model=reference,
            reward_model=reward_model,
            value_model=critic,
            train_dataset=Dataset.from_dict({"input_ids": prompts}),
            callbacks=[clock],
        )
        # Metrics are printed; standard output is for the result.
        with contextlib.redirect_stdout(sys.stderr):
            trainer.train()
    seconds = clock.seconds()
    assert len(seconds) == iterations, seconds
    workload.report(seconds[workload.warm_up :], workload.rows * new, trl=trl.__version__)


main()
