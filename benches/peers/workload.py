"""What the three peers share: the command line of `finegrain bench`, the model, the clock, and the same JSON."""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import time

# Nothing here is fetched: weights and ids are random.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from transformers import LlamaConfig

# Vocabulary, channels, layers, heads, key/value heads, feed-forward, whether the head is the embedding table: the same as
# host/src/bench/shape.rs. benches/compare refuses to compare where the two sides differ.
SHAPES = {
    "small": (512, 128, 4, 4, 4, 344, False),
    "medium": (4096, 288, 6, 6, 6, 768, False),
    "smollm2": (49152, 576, 30, 9, 3, 1536, True),
    "llama-7b": (32000, 4096, 32, 32, 32, 11008, False),
}
# Rows and tokens a row, by workload; half a row is prompt unless PROMPTS says otherwise.
BATCHES = {
    "small": {"train": (32, 64), "generate": (32, 64), "ppo": (64, 64)},
    "medium": {"train": (8, 128), "generate": (8, 128), "ppo": (32, 128)},
    "smollm2": {"train": (4, 128), "generate": (4, 128), "ppo": (4, 128)},
    "llama-7b": {"train": (4, 492), "generate": (16, 492), "ppo": (16, 492)},
}
PROMPTS = {"llama-7b": 192}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Workload:
    """The command line, and what it decides."""

    def __init__(self, name, description, flags=()):
        """`flags` are (name, help) of switches that only one workload has."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--shape", default="small", help="small, medium, smollm2, llama-7b, or V,C,LAYERS,HEADS,KV,FFN")
        parser.add_argument("--tied", action="store_true", help="with an explicit shape: the head is the embedding table")
        parser.add_argument("--batch", metavar="ROWSxLENGTH", help="rows and tokens a row")
        parser.add_argument("--prompt", type=int, metavar="N", help="tokens of a prompt; half a row where absent")
        parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
        parser.add_argument("--ordinal", type=int, default=0, help="which GPU")
        parser.add_argument("--dtype", choices=list(DTYPES), help="bf16 on a GPU where absent; f32 on the processor")
        parser.add_argument("--repetitions", type=int, default=5)
        parser.add_argument("--warm-up", type=int, default=1, help="repetitions that are not counted")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--threads", type=int, default=0, help="0 takes one per core")
        parser.add_argument("--json", action="store_true")
        for flag, text in flags:
            parser.add_argument(flag, action="store_true", help=text)
        args = self.args = parser.parse_args()
        self.name = name
        self.repetitions, self.warm_up, self.seed = args.repetitions, args.warm_up, args.seed
        if args.shape in SHAPES:
            if args.tied:
                parser.error("--tied: a named shape says by itself whether the head is tied")
            shape, batch = SHAPES[args.shape], BATCHES[args.shape][name]
        else:
            try:
                sizes = tuple(int(size) for size in args.shape.split(","))
            except ValueError:
                sizes = ()
            if len(sizes) != 6:
                parser.error(f"--shape {args.shape}: accepted are {', '.join(SHAPES)} and six sizes V,C,LAYERS,HEADS,KV,FFN")
            shape, batch = (*sizes, args.tied), None
        if args.batch is not None:
            try:
                rows, length = args.batch.split("x")
                batch = int(rows), int(length)
            except ValueError:
                parser.error(f"--batch {args.batch}: accepted is ROWSxLENGTH, such as 32x64")
        if batch is None:
            parser.error("--batch is needed with an explicit shape")
        self.shape, (self.rows, self.length) = shape, batch
        # A named shape has its prompts with its own batch only, as in finegrain.
        named = PROMPTS.get(args.shape) if args.batch is None and name != "train" else None
        self.prompt = args.prompt or named or self.length // 2
        if not 0 < self.prompt < self.length:
            parser.error(f"--prompt {self.prompt}: accepted is 1 to {self.length - 1}")
        if args.device == "cuda" and not torch.cuda.is_available():
            parser.error("--device cuda: PyTorch sees no GPU")
        if args.device == "cpu" and args.dtype == "bf16":
            parser.error("--dtype bf16: finegrain's processor side computes in f32")
        self.on_gpu = args.device == "cuda"
        self.device = torch.device("cuda", args.ordinal) if self.on_gpu else torch.device("cpu")
        self.dtype = args.dtype or ("bf16" if self.on_gpu else "f32")
        self.json = args.json
        self.threads = args.threads or len(os.sched_getaffinity(0))
        torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        random.seed(self.seed)
        if self.on_gpu:
            # Before the memory is counted: the context is not the model's.
            torch.cuda.set_device(self.device)
            torch.zeros(1, device=self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        self.start_bytes = peak_bytes()

    def config(self, **more):
        vocabulary, channels, layers, heads, kv_heads, feed_forward, tied = self.shape
        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=channels,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            intermediate_size=feed_forward,
            tie_word_embeddings=tied,
            max_position_embeddings=self.length,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
            dtype={"f32": "float32", "bf16": "bfloat16"}[self.dtype],
            **more,
        )

    def model(self, kind, **more):
        """A model of this kind with fresh weights, made where it will be: drawing seven billion on the processor takes minutes."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(DTYPES[self.dtype])
        try:
            with self.device:
                # On a GPU attention by PyTorch's own fused kernels; on the processor transformers' default, which is the same.
                return kind._from_config(self.config(**more), attn_implementation="sdpa") if self.on_gpu else kind(self.config(**more))
        finally:
            torch.set_default_dtype(default)

    def ids(self, rows, length):
        """Random ids, (rows, length)."""
        return torch.randint(self.shape[0], (rows, length), device=self.device)

    def now(self):
        """Seconds, when everything that was asked of the device is done."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def report(self, seconds, tokens, **versions):
        """Prints the seconds of the counted repetitions, as JSON or as a line."""
        vocabulary, channels, layers, heads, kv_heads, feed_forward, tied = self.shape
        result = {
            "workload": self.name,
            "shape": {
                "vocabulary": vocabulary,
                "channels": channels,
                "layers": layers,
                "heads": heads,
                "kv_heads": kv_heads,
                "feed_forward": feed_forward,
                "tied": tied,
            },
            "rows": self.rows,
            "length": self.length,
            "prompt": self.prompt,
            "device": torch.cuda.get_device_name(self.device) if self.on_gpu else "cpu",
            "dtype": self.dtype,
            "threads": self.threads,
            "tokens": tokens,
            "seconds": seconds,
            "peak_bytes": peak_bytes(),
            "start_bytes": self.start_bytes,
            # Bytes of tensors, not what the allocator holds: what finegrain counts too.
            "device_peak_bytes": torch.cuda.max_memory_allocated(self.device) if self.on_gpu else None,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__, **versions},
        }
        if self.json:
            json.dump(result, sys.stdout)
            print()
        else:
            rates = sorted(tokens / second for second in seconds)
            print(
                f"{self.name}: {statistics.median(rates):.0f} tokens/s (min {rates[0]:.0f}, max {rates[-1]:.0f}), "
                f"peak {result['peak_bytes'] / 2**20:.0f} MiB, of which {self.start_bytes / 2**20:.0f} before the model"
                + (f", GPU {result['device_peak_bytes'] / 2**20:.0f} MiB" if self.on_gpu else "")
            )


def peak_bytes():
    """The largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
