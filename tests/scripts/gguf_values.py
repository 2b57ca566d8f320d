"""The values of a GGUF file's tensors by gguf-py, the format's own library, as JSON: {name: [numbers]}.

Run: python tests/scripts/gguf_values.py FILE. Exit code 77: this Python has no gguf.
"""

import json
import sys

try:
    from gguf import GGUFReader
    from gguf.quants import dequantize
except ModuleNotFoundError:
    sys.exit(77)

tensors = GGUFReader(sys.argv[1]).tensors
print(json.dumps({t.name: dequantize(t.data, t.tensor_type).flatten().tolist() for t in tensors}))
