"""Synthetic faces that show all of CelebA's attributes, rendered without any download."""

from iamt_jax.synthetic.nuisance import Nuisance, sample_nuisance
from iamt_jax.synthetic.render import LOCAL_ATTRIBUTES, region, render
from iamt_jax.synthetic.rendered import ensure_dataset, faces, faces_folder, write_dataset
from iamt_jax.synthetic.sampling import sample_attributes

__all__ = [
    "LOCAL_ATTRIBUTES",
    "Nuisance",
    "ensure_dataset",
    "faces",
    "faces_folder",
    "region",
    "render",
    "sample_attributes",
    "sample_nuisance",
    "write_dataset",
]
