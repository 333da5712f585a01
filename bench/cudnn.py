"""Other ways to run an LSTM on a GPU: PyTorch, and TensorFlow's operations around cuDNN."""

from time import monotonic
from typing import Any

from charlstm.network.backend import tf
from charlstm.training.pace import CALLS_BEFORE

V = 65


def pytorch(units: int, batch: int, seconds: float, device: str) -> float:
    """Return the characters/s of a training with torch.nn.LSTM, measured for so many seconds."""
    import torch
    from torch import nn

    where = torch.device(device)
    lstm = nn.LSTM(V, units, 3, batch_first=True, dropout=0.1).to(where)
    head = nn.Linear(units, V).to(where)
    weights = [*lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights)
    ids = torch.randint(V, (batch, 65), device=where)
    state = None
    began, steps = monotonic(), -CALLS_BEFORE
    while steps < 1 or monotonic() - began < seconds:
        if steps == 0:
            began = monotonic()
        output, state = lstm(nn.functional.one_hot(ids[:, :-1], V).float(), state)
        state = tuple(part.detach() for part in state)
        loss = nn.functional.cross_entropy(head(output).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        loss.item()
        steps += 1
    return steps * batch * 64 / (monotonic() - began)


def cudnn(form: str, seconds: float) -> float:
    """Return the seconds of one layer, forward and backward, with one of TensorFlow's operations.

    V2 lets cuDNN choose among its kernels, persistent ones included; V3 takes the lengths of the
    sequences, and its plain kernel.
    """
    units, batch, length = 512, 64, 64
    major = form != "V3, batch-major"
    shape = (length, batch, units) if major else (batch, length, units)
    inputs = tf.random.normal(shape)
    states = tf.zeros((1, batch, units) if major else (batch, 1, units))
    params = tf.random.normal([8 * units * units + 8 * units], stddev=0.05)
    lengths = tf.fill([batch], length - 1 if form.endswith("lengths") else length)
    shared = {"rnn_mode": "lstm", "is_training": True}

    @tf.function  # type: ignore[untyped-decorator] # TensorFlow is untyped
    def step() -> Any:
        with tf.GradientTape() as tape:
            tape.watch([inputs, params])
            if form == "V2":
                found = tf.raw_ops.CudnnRNNV2(
                    input=inputs, input_h=states, input_c=states, params=params, **shared
                )
            else:
                found = tf.raw_ops.CudnnRNNV3(
                    input=inputs,
                    input_h=states,
                    input_c=states,
                    params=params,
                    sequence_lengths=lengths,
                    time_major=major,
                    **shared,
                )
            loss = tf.reduce_sum(found.output)
        return [tf.reduce_sum(gradient) for gradient in tape.gradient(loss, [inputs, params])]

    for _ in range(CALLS_BEFORE):
        step()[0].numpy()
    began, steps = monotonic(), 0
    while monotonic() - began < seconds:
        step()[0].numpy()
        steps += 1
    return (monotonic() - began) / steps
