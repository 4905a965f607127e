"""`train.py --dry-run`: what it prints, what it refuses, and that it leaves nothing behind."""

import dataclasses
import importlib.util
import re

import cli
import jax
import jax.numpy as jnp
import pytest
from conftest import flags
from faults import refused

from iamt_jax.data.dataset import EncodedImages
from iamt_jax.errors import InputError
from iamt_jax.training import dry_run as dry
from iamt_jax.training.dry_run import devices_here, devices_of, dry_run, products
from iamt_jax.training.step import create


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """The lines of a dry run, and its workdir."""
    workdir = tmp_path_factory.mktemp("dry") / "W"
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *text, **options: lines.extend(text))
        assert cli.train([*flags(workdir), "--dry-run"]) == 0
    return [str(line) for line in lines], workdir


def test_it_says_what_the_run_will_be(said, tiny):
    lines, workdir = said
    assert not workdir.exists()
    starts = [line.split(":")[0] for line in lines]
    assert starts[-6:] == ["data", "cache", "run", "parameters", "step", "time"]
    data, cache, run, parameters, step, time = lines[-6:]
    assert "64 images to train on, 16 to validate, 40 attributes" in data
    assert re.search(r"[\d.]+ MiB in .*, which has [\d.]+ GiB free; made once, in about", cache)
    train = tiny.train
    assert f"{train.steps} steps of {train.batch_size} images" in run
    assert f"{train.steps * train.batch_size / 64:.1f} epochs, validated every" in run
    _, state = create(tiny, 40)
    for name, part in state.params.items():
        assert f"{name} {sum(x.size for x in jax.tree.leaves(part)):,}" in parameters
    assert re.search(r"compiled for 8 x cpu in \d+ s; memory [\d.]+ MiB of [\d.]+ GiB", step)
    assert "images/s" in time and "40% of a matrix product's" in time


def test_a_step_that_does_not_fit_is_refused(tiny, dataset):
    target = devices_here("float32")._replace(memory=1000)
    with pytest.raises(InputError, match="`train.batch_size` .* needs .* on each of 8 x cpu"):
        dry_run(tiny, dataset, target)


def test_a_batch_that_the_devices_cannot_share_is_refused(tiny, dataset):
    train = dataclasses.replace(tiny.train, batch_size=12)
    with pytest.raises(InputError, match="`train.batch_size` 12: must be divisible by the 8"):
        dry_run(dataclasses.replace(tiny, train=train), dataset, devices_here("float32"))


def test_a_damaged_header_is_refused(tiny, dataset, monkeypatch):
    records = dataset.split("train")

    class Damaged(EncodedImages):
        location = records.images.location

        def read(self, index):
            return b"no image" if index == 5 else records.read(index)

    damaged = dataclasses.replace(records, images=Damaged())
    with pytest.raises(InputError, match="1 of 64 images are damaged: .*none of JPEG, PNG"):
        dry.check_headers([damaged], 0)
    dry.check_headers([damaged], 1)


def test_other_devices_need_dry_run_libtpu_and_a_known_name(tmp_path, capsys, monkeypatch):
    workdir = flags(tmp_path / "W")
    refused(capsys, cli.train, [*workdir, "--for", "v5e"], "--for: only --dry-run compiles")
    alone = ["--processes.coordinator", "auto"]
    refused(capsys, cli.train, [*workdir, "--dry-run", *alone], "--dry-run: cannot be combined")
    for name in ("v4", "v5e-3", "gpu", ""):
        with pytest.raises(InputError, match="`for` .*: expected v5e or v6e"):
            devices_of(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="`for` v5e-4: .* needs libtpu"):
        devices_of("v5e-4")


def test_products_count_loops_and_the_form_of_the_platform():
    x = jnp.ones((4, 8))

    def looped(x):
        return jax.lax.fori_loop(0, 3, lambda _, y: y @ x.T @ x, x)

    assert products(looped, x) == 3 * 2 * (2 * 4 * 8 * 4)

    def by_platform(x):
        return jax.lax.platform_dependent(
            x, cpu=lambda x: x @ x.T, default=lambda x: x @ x.T @ x @ x.T
        )

    one = 2 * 4 * 8 * 4
    assert products(by_platform, x) == one
    assert products(by_platform, x, platform="tpu") == 3 * one


def test_strided_gradients_count_as_the_forward_pass():
    images, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))

    def convolve(images, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(images, kernel, (2, 2), "SAME", dimension_numbers=layout)
        return jnp.sum(jnp.square(y))

    forward = 2 * kernel.size * 2 * 4 * 4
    assert products(convolve, images, kernel) == forward
    assert products(jax.grad(convolve, (0, 1)), images, kernel) == 3 * forward
