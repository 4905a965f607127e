"""Sheets of pictures: layout and colours."""

import io

import numpy as np
from PIL import Image
from sheets import beside, contact_sheet

from iamt_jax.report.figures import GAP, labelled_rows
from iamt_jax.report.overlays import mask_map_png

PICTURES = np.arange(5 * 8 * 6 * 3, dtype=np.uint8).reshape(5, 8, 6, 3)


def test_a_contact_sheet_shows_every_picture_in_order():
    sheet = np.asarray(contact_sheet(PICTURES, columns=3, scale=2))
    assert sheet.shape == (2 * (16 + GAP), 3 * (12 + GAP), 3)
    fifth = sheet[16 + GAP : 32 + GAP, 12 + GAP : 24 + GAP]
    np.testing.assert_array_equal(fifth[::2, ::2], PICTURES[4])


def test_pictures_beside_each_other_keep_their_pixels():
    first, second = (Image.fromarray(PICTURES[i]) for i in (0, 1))
    sheet = np.asarray(beside([first, second.resize((6, 4))]))
    assert sheet.shape == (8, 12, 3)
    np.testing.assert_array_equal(sheet[:, :6], PICTURES[0])
    assert (sheet[4:, 6:] == 255).all()


def test_named_rows_keep_a_margin():
    sheet = labelled_rows([("Wearing_Hat", PICTURES), ("b", PICTURES[:2])])
    assert sheet.width > 5 * (6 + GAP) and sheet.height == 2 * (8 + GAP)


def test_a_map_of_masks_runs_from_dark_to_light():
    values = np.array([[0.2, 0.3], [0.25, 0.21]])
    picture = Image.open(io.BytesIO(mask_map_png(values))).convert("RGB")
    brightness = np.asarray(picture).astype(int).sum(axis=-1)
    np.testing.assert_array_equal(np.argsort(brightness.ravel()), np.argsort(values.ravel()))
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(mask_map_png(np.ones((2, 2)))))))) == 1
