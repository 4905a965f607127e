"""Networks and training states as shapes, with no number computed."""

import jax

from iamt_jax.training.step import create


def shapes(config, attributes):
    """The network's definition, and the state before the first step as shapes."""
    definition = None

    def make():
        nonlocal definition
        definition, state = create(config, attributes)
        return state

    state = jax.eval_shape(make)
    return definition, state
