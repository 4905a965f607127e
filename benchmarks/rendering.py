"""Measures how many synthetic faces a second this machine renders (no JPEG writing).

python benchmarks/rendering.py [--size 64] [--images 4096] [--threads 2]
"""

import argparse
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from iamt_jax.synthetic import render, sample_attributes, sample_nuisance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--images", type=int, default=4096, help="images to render")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="rendering threads")
    parser.add_argument("--chunk", type=int, default=256, help="images a task")
    flags = parser.parse_args()

    start = time.perf_counter()
    sample_attributes(np.random.default_rng(0), 1)
    fit = time.perf_counter() - start
    rng = np.random.default_rng(0)
    attributes = sample_attributes(rng, flags.images)
    nuisance = sample_nuisance(rng, flags.images)
    starts = range(0, flags.images, flags.chunk)
    chunks = [slice(first, first + flags.chunk) for first in starts]
    render(attributes[:8], nuisance[:8], flags.size)

    start, start_cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(flags.threads) as pool:
        list(pool.map(lambda part: render(attributes[part], nuisance[part], flags.size), chunks))
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu

    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}")
    print(f"versions: Python {platform.python_version()}, NumPy {np.__version__}")
    print(f"copula fit: {fit:.2f} s, once a process")
    print(
        f"rendering: {flags.images / wall:,.0f} images/s at {flags.size} px on {flags.threads} "
        f"threads ({wall:.2f} s; {1e3 * cpu / flags.images:.2f} ms of one core an image)"
    )


if __name__ == "__main__":
    main()
