"""The six commands as functions of their flags, in this process."""

from functools import partial

from iamt_jax.commands.main import commands, main


def run(name, arguments):
    """Runs `python -m iamt_jax NAME ...`; returns the exit status."""
    return main([name, *arguments])


COMMANDS = {name: partial(run, name) for name in commands()}
train, evaluate, calibrate, predict, explore, export = COMMANDS.values()
