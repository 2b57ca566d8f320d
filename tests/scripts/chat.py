"""Renders a chat template with transformers' own environment, for the expected texts of host/src/data/chat.rs.

Run: python tests/scripts/chat.py < rich.jinja, with the template of the test on standard input.
"""

import sys

from transformers.utils.chat_template_utils import render_jinja_template

messages = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "Is 1 < 2?"},
    {"role": "assistant", "content": "Yes"},
    {"role": "user", "content": "{{ 7 * 6 }}"},
]
texts, _ = render_jinja_template(
    [messages],
    chat_template=sys.stdin.read(),
    add_generation_prompt=True,
    bos_token="<s>",
    eos_token="</s>",
)
print(repr(texts[0]))
