"""Sheets of pictures: layout and colours."""

import numpy as np
from sheets import contact_sheet, heat

from iamt_jax.report.figures import GAP, labelled_rows

PICTURES = np.arange(5 * 8 * 6 * 3, dtype=np.uint8).reshape(5, 8, 6, 3)


def test_a_contact_sheet_shows_every_picture_in_order():
    sheet = np.asarray(contact_sheet(PICTURES, columns=3, scale=2))
    assert sheet.shape == (2 * (16 + GAP), 3 * (12 + GAP), 3)
    fifth = sheet[16 + GAP : 32 + GAP, 12 + GAP : 24 + GAP]
    np.testing.assert_array_equal(fifth[::2, ::2], PICTURES[4])


def test_named_rows_keep_a_margin():
    sheet = labelled_rows([("Wearing_Hat", PICTURES), ("b", PICTURES[:2])])
    assert sheet.width > 5 * (6 + GAP) and sheet.height == 2 * (8 + GAP)


def test_heat_runs_from_dark_to_light_in_each_map():
    maps = np.stack([np.linspace(0, 1, 16).reshape(4, 4), np.linspace(5, 9, 16).reshape(4, 4)])
    coloured = heat(maps, 32).astype(int)
    assert coloured.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(coloured[0], coloured[1])
    assert coloured[0, 0, 0].sum() < coloured[0, -1, -1].sum()
    assert heat(np.zeros((1, 2, 2)), 4).shape == (1, 4, 4, 3)
