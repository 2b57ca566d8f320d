"""Golden ids of tests/it/gguf.rs: what llama.cpp makes of texts with a GGUF's tokens under other pre-tokenizers.

Run: python tests/scripts/llama_cpp_ids.py FILE (a Python with gguf and xllamacpp, which brings llama.cpp)
Printed 2026-11: xllamacpp 2026.10.11549, SmolLM2-135M-Instruct.Q4_1.gguf.
"""

import json
import os
import shutil
import struct
import sys
import tempfile
import urllib.request

import xllamacpp
from gguf import GGUFReader

TEXTS = [
    "Hello I'M we've 12345 ½ x²  tabs\t\n\n  naïve 日本語 😀🏽 !!?\r\n end  ",
    "don't  DON'T 2024-11-24 foo_bar(x)==y;\n\n\tz",
]


def renamed(source, target, name):
    """Copies a GGUF with another tokenizer.ggml.pre, which changes its length, and with it the alignment."""
    data = open(source, "rb").read()
    reader = GGUFReader(source)
    key = b"tokenizer.ggml.pre"
    at = data.index(struct.pack("<Q", len(key)) + key) + 8 + len(key) + 4
    (length,) = struct.unpack("<Q", data[at : at + 8])
    head = data[:at] + struct.pack("<Q", len(name)) + name.encode() + data[at + 8 + length :]
    end = max(t.field.offset + sum(part.nbytes for part in t.field.parts) for t in reader.tensors)
    end += len(name) - length
    open(target, "wb").write(head[:end] + bytes(-end % 32) + data[reader.data_offset :])


name = sys.argv[2] if len(sys.argv) > 2 else None
if name is None:
    for name in ["gpt-2", "smollm", "llama-bpe"]:
        # A process each: a server cannot be stopped.
        os.system(f"{sys.executable} {sys.argv[0]} {sys.argv[1]} {name} 2>/dev/null")
else:
    folder = tempfile.mkdtemp()
    params = xllamacpp.CommonParams()
    params.model.path = f"{folder}/renamed.gguf"
    params.n_ctx, params.warmup, params.port = 512, False, 18431
    renamed(sys.argv[1], params.model.path, name)
    server = xllamacpp.Server(params)
    shutil.rmtree(folder)
    for text in TEXTS:
        asked = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        request = urllib.request.Request(
            f"{server.listening_address}/tokenize", asked, {"Content-Type": "application/json"}
        )
        print(name, json.load(urllib.request.urlopen(request))["tokens"], flush=True)
    os._exit(0)
