"""Fit a line through data that is spread over all ranks, with the usual scientific stack.

Every rank measures its own share of a noisy line, looks at it with pandas and SciPy, and keeps it
in an HDF5 file in memory. The fit over all shares needs one Allreduce. Rank 0 compares it with
scikit-learn's on its own share, draws it, and prints one line.
"""

import io
import time

START = time.perf_counter()

import h5py
import matplotlib
import numpy as np
import pandas as pd
import scipy.stats
import sklearn.linear_model
from mpi4py import MPI

matplotlib.use("Agg")
import matplotlib.pyplot as plt

IMPORTED = time.perf_counter()

SLOPE, OFFSET, SAMPLES = 2.5, -1.0, 10_000


def measure(rank):
    """This rank's share: noisy samples of the line, without the worst outliers."""
    random = np.random.default_rng(rank)
    x = random.uniform(-10, 10, SAMPLES)
    table = pd.DataFrame({"x": x, "y": SLOPE * x + OFFSET + random.standard_normal(SAMPLES)})
    residual = table["y"] - (SLOPE * table["x"] + OFFSET)
    return table[np.abs(scipy.stats.zscore(residual)) < 3]


def keep(table):
    """Write the share to a file in memory and read it back."""
    with h5py.File("share.h5", "w", driver="core", backing_store=False) as file:
        file["samples"] = table.to_numpy()
        return file["samples"][:]


def fit(world, samples):
    """The least-squares line through the samples of all ranks."""
    columns = np.column_stack([samples[:, 0], np.ones(len(samples))])
    share = np.concatenate([(columns.T @ columns).ravel(), columns.T @ samples[:, 1]])
    total = np.empty_like(share)
    world.Allreduce(share, total)
    return np.linalg.solve(total[:4].reshape(2, 2), total[4:])


def draw(samples, slope, offset):
    """The size of a picture of the fit."""
    figure, axes = plt.subplots()
    axes.plot(samples[::100, 0], samples[::100, 1], ".")
    axes.axline((0, offset), slope=slope)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return len(picture.getvalue())


def main():
    """Run on every rank."""
    world = MPI.COMM_WORLD
    samples = keep(measure(world.rank))
    slope, offset = fit(world, samples)
    slowest = world.reduce(IMPORTED - START, op=MPI.MAX)
    if world.rank == 0:
        own = sklearn.linear_model.LinearRegression().fit(samples[:, :1], samples[:, 1])
        assert abs(own.coef_[0] - slope) < 0.05
        print(
            f"{world.size} ranks: y = {slope:.3f} x {offset:+.3f}; picture of "
            f"{draw(samples, slope, offset)} bytes; slowest import {slowest:.2f} s"
        )


if __name__ == "__main__":
    main()
