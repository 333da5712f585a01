"""Sample in numpy alone: python sample_numpy.py model.npz "The " 0.7 300."""

import json
import sys

import numpy as np

path, text, temperature, length = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
file = dict(np.load(path))
about = json.loads(file.pop("charlstm").item())
model, characters, random = about["model"], about["vocabulary"], np.random.default_rng()
w = {name: array * file.get(f"{name}_scale", np.float32(1)) for name, array in file.items()}
h, c = np.zeros((2, model["layers"], model["units"]), np.float32)


def read(x):
    for n in range(len(h)):
        kernel, u, bias = (w[f"{name}_{n + 1}"] for name in ("kernel", "recurrent", "bias"))
        first, second = bias if model["cell"] == "gru" else (bias, 0)
        a, b = first + (h[n - 1] @ kernel if n else kernel[characters.index(x)]), second + h[n] @ u
        hard = model.get("recurrent_activation") == "hard_sigmoid"
        gates = np.clip(0.2 * (a + b) + 0.5, 0, 1) if hard else 0.5 + 0.5 * np.tanh(0.5 * (a + b))
        if model["cell"] == "lstm":
            i, f, _, o = np.split(gates, 4)
            c[n] = f * c[n] + i * np.tanh(np.split(a + b, 4)[2])
            h[n] = o * np.tanh(c[n])
        elif model["cell"] == "gru":
            z, r, _ = np.split(gates, 3)
            h[n] = z * h[n] + (1 - z) * np.tanh(np.split(a, 3)[2] + r * np.split(b, 3)[2])
        else:
            h[n] = np.maximum(a + b, 0) if model.get("activation") == "relu" else np.tanh(a + b)
    return (h[-1] @ w["dense_kernel"] + w["dense_bias"]).astype(float)


logits = [read(x) for x in text or ("\n" if "\n" in characters else characters[0])][-1]
for _ in range(length):
    weights = np.exp((logits - logits.max()) / (temperature or 1e-9))
    text += characters[random.choice(len(weights), p=weights / weights.sum())]
    logits = read(text[-1])
print(text)
