"""Sample from the output of `charlstm export --format litert`, with numpy and ai-edge-litert alone.

python examples/sample_litert.py model.tflite "The " 0.7 300
"""

import json
import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter

path, prime, temperature, length = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
step = Interpreter(path).get_signature_runner()
about = json.loads(zipfile.ZipFile(path).read("charlstm.json"))
characters, names = about["vocabulary"], about["inputs"]
states = [np.zeros((1, about["model"]["units"]), np.float32) for _ in names[1:]]
random = np.random.default_rng()


def read(character, states):
    ids = np.array([[characters.index(character)]], np.int32)
    found = step(**dict(zip(names, [ids, *states])))
    logits, *states = (found[name] for name in about["outputs"])
    return logits[0, -1].astype(float), states


for character in prime or ("\n" if "\n" in characters else characters[0]):
    logits, states = read(character, states)
print(prime, end="")
for _ in range(length):
    weights = np.exp((logits - logits.max()) / (temperature or 1e-9))
    character = characters[random.choice(len(weights), p=weights / weights.sum())]
    print(character, end="", flush=True)
    logits, states = read(character, states)
print()
