"""Tokenizers of Hugging Face folders as GGUF files without a model, as convert_hf_to_gguf.py writes them, for tests/it/tokenizers.rs.

tokenizers_gguf.py OUT FOLDER [FOLDER …]: writes OUT/NAME.gguf for every FOLDER whose last part is NAME and prints the files' paths
as JSON. Exit code 77: this Python has no gguf.
Source: llama.cpp's conversion/base.py, 2026-10. What it takes out of a tokenizer.model (SentencePiece), which is not there, comes from
tokenizer.json: merges stand there in the order of the scores of what they make.
"""

import json
import pathlib
import sys

try:
    import gguf
except ModuleNotFoundError:
    sys.exit(77)

# tokenizer.ggml.pre, which the converter finds by a hash of the ids of a text.
PRE = {"qwen3": "qwen2", "llama3_1": "llama-bpe"}
SPACE = "\u2581"


def scores(tokenizer, tokens):
    """Of a token the place of its first merge, negated; what nothing is merged to comes last."""
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in tokenizer["model"]["merges"]]
    places = {}
    for place, merge in enumerate(merges):
        places.setdefault("".join(merge), place)
    return [-float(places.get(token, len(merges))) for token in tokens]


def write(folder, out):
    with open(folder / "tokenizer.json") as file:
        tokenizer = json.load(file)
    with open(folder / "tokenizer_config.json") as file:
        config = json.load(file)
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    by_id = {id: token for token, id in tokenizer["model"]["vocab"].items()}
    by_id |= {id: token["content"] for id, token in added.items()}
    pieces = tokenizer["model"]["byte_fallback"]
    tokens, kinds = [], []
    for id in range(max(by_id) + 1):
        # Ids that nothing has, and as many as the table of the model's embeddings.
        token, kind = by_id.get(id, f"[PAD{id}]"), gguf.TokenType.NORMAL
        if id not in by_id:
            kind = gguf.TokenType.UNUSED
        elif id in added and pieces and token == config.get("unk_token"):
            kind = gguf.TokenType.UNKNOWN
        elif id in added and added[id]["special"]:
            kind = gguf.TokenType.CONTROL
        elif id in added:
            token, kind = token.replace(SPACE, " "), gguf.TokenType.USER_DEFINED
        elif pieces and len(token) == 6 and token.startswith("<0x"):
            kind = gguf.TokenType.BYTE
        tokens.append(token)
        kinds.append(kind)
    path = out / f"{folder.name}.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    if pieces:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(scores(tokenizer, tokens))
        writer.add_add_space_prefix("Prepend" in json.dumps(tokenizer["normalizer"]))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(PRE[folder.name])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    gguf.SpecialVocab(folder, load_merges=not pieces).add_to_gguf(writer, quiet=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


out = pathlib.Path(sys.argv[1])
print(json.dumps([write(pathlib.Path(folder), out) for folder in sys.argv[2:]]))
