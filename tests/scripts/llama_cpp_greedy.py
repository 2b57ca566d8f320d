"""The likeliest continuation of a row of ids by llama.cpp, in f32, for tests/it/families.rs.

llama_cpp_greedy.py FILE < {"prompt": [id, …], "count": N, "vocabulary": V}
Prints as JSON `tokens`, N of them, and `logprobs`, the log-probabilities of all V tokens at each, by id.
Exit code 77: this Python has no xllamacpp.
"""

import json
import os
import sys

try:
    import xllamacpp
except ModuleNotFoundError:
    sys.exit(77)

asked = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_parallel, params.warmup, params.fit_params = 256, 1, False, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
# Half precision is the default of what attention keeps.
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(params)
answer = server.handle_completions(
    {
        "prompt": asked["prompt"],
        "n_predict": asked["count"],
        "temperature": 0,
        "n_probs": asked["vocabulary"],
        "cache_prompt": False,
    }
)
tokens, logprobs = [], []
for token in answer["choices"][0]["logprobs"]["content"]:
    of_all = {one["id"]: one["logprob"] for one in token["top_logprobs"]}
    tokens.append(token["id"])
    logprobs.append([of_all[id] for id in range(asked["vocabulary"])])
print(json.dumps({"tokens": tokens, "logprobs": logprobs}), flush=True)
# A server cannot be stopped.
os._exit(0)
