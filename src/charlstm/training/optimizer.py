"""The optimizers in their published form, built from the options. Knows no model."""

from dataclasses import replace
from typing import Any

from charlstm.config import TrainConfig
from charlstm.network.backend import keras

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "sgd": keras.optimizers.SGD,
}


def make_optimizer(config: TrainConfig) -> Any:
    """Return the optimizer that the options ask for; for float16, wrapped with loss scaling.

    Adagrad's accumulator starts from 0, as published (Duchi et al. 2011); Keras's default is 0.1.
    Weight decay is decoupled from the gradients (Loshchilov and Hutter 2019); biases are exempt.
    """
    if config.precision == "float16":
        return keras.optimizers.LossScaleOptimizer(
            make_optimizer(replace(config, precision="float32"))
        )
    settings: dict[str, Any] = {"weight_decay": config.weight_decay or None}
    if config.epsilon is not None and config.optimizer != "sgd":
        settings["epsilon"] = config.epsilon
    if config.rho is not None and config.optimizer == "rmsprop":
        settings["rho"] = config.rho
    if config.optimizer == "adagrad":
        settings["initial_accumulator_value"] = 0.0
    optimizer = OPTIMIZERS[config.optimizer](learning_rate=config.learning_rate, **settings)
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def take_sums(optimizer: Any) -> None:
    """Make an optimizer take gradients that are sums over all replicas already.

    Keras would sum them once more, which doubles what the replicas exchange, and has no public
    option for that. The sums are needed before, to clip them and to see whether they are finite.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    assert hasattr(inner, "_all_reduce_sum_gradients"), "this version of Keras sums elsewhere"
    inner._all_reduce_sum_gradients = lambda pairs: pairs  # noqa: SLF001 - see above


def with_weight_decay(config: TrainConfig, steps: int) -> TrainConfig:
    """Return options with the weight decay of ``weight_decay_epochs``, if those are given.

    An epoch has ``steps`` steps, each of which multiplies an otherwise idle weight by
    1 - learning rate x weight decay. What does not depend on the text is the number of epochs in
    which that becomes 1/e (Wang and Aitchison 2024, "How to set AdamW's weight decay as you scale
    model and dataset size"). Rounded to two digits, so that one can type it.
    """
    epochs = config.weight_decay_epochs
    if epochs is None:
        return config
    decay = 1 / (config.learning_rate * steps * epochs)
    return replace(config, weight_decay=float(f"{decay:.2g}"))
