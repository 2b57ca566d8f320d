"""What transformers makes of texts and conversations with tokenizers, for tests/it/tokenizers.rs.

tokenizer_check.py < {"folders": [FOLDER, …], "texts": [TEXT, …], "conversations": [[{"role": …, "content": …}, …], …]}
Prints as JSON for every folder
  prompts  the ids of each text, names of special tokens in it being these tokens, with what stands before a text
  plain    the ids of each text, with names of special tokens as text and nothing before it
  decoded  the texts of `plain`
  chats    of each conversation the text in the chat template, up to an answer, and its ids; null where the template refuses
           it, and no such list where there is no template
  special  the special tokens that the template is given
"""

import json
import sys

from jinja2 import TemplateError
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

logging.set_verbosity_error()
asked = json.load(sys.stdin)


def chat(tokenizer, messages):
    try:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except TemplateError:
        return None
    return {"text": text, "ids": tokenizer(text, add_special_tokens=False).input_ids}


def seen(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if isinstance(tokenizer, LlamaTokenizer):
        # transformers 5.17 leaves the file's normalizer out and gives texts that begin with a space one space, where the file,
        # SentencePiece and transformers 4 give two.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    plain = [tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids for text in asked["texts"]]
    found = {
        "class": type(tokenizer).__name__,
        "prompts": [tokenizer(text).input_ids for text in asked["texts"]],
        "plain": plain,
        "decoded": [tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in plain],
        "special": {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)},
    }
    if tokenizer.chat_template:
        found["chats"] = [chat(tokenizer, messages) for messages in asked["conversations"]]
    return found


print(json.dumps([seen(folder) for folder in asked["folders"]]))
