"""Results published on CelebA, to compare ours with.

Every number is copied as published: Tables 1 to 4 of Kimura and Tanaka (arXiv 1905.02719).
Table 4 cites its three rivals: MT-RBM PCA (Ehrlich et al., CVPR Workshops 2016),
LNets+ANet and FaceTracer (both as measured by Liu et al., "Deep Learning Face Attributes in the
Wild", ICCV 2015, arXiv 1411.7766, Table 1, where the numbers are the same).

The average that the paper states for its own method, 92.05, is not the mean of the 40 accuracies
that it prints, 90.17. Tables 1 and 4 both state 92.05, so neither number can be corrected from
the paper; tables here show both.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One method's published accuracy on CelebA's test split."""

    name: str
    source: str
    """The publication that states the numbers."""
    digits: int
    """Number of published decimals."""
    average: float
    """Stated average, in percent."""
    accuracy: dict[str, float]
    """Attribute -> published accuracy, in percent."""

    @property
    def mean(self) -> float:
        """Mean of `accuracy`, which may differ from the stated average."""
        return sum(self.accuracy.values()) / len(self.accuracy)


_TABLE_4 = "Kimura and Tanaka, arXiv 1905.02719, Table 4"

_METHODS = (
    ("paper", _TABLE_4, 2, 92.05),
    ("MT-RBM PCA", f"Ehrlich et al., CVPR Workshops 2016; in {_TABLE_4}", 0, 87),
    ("LNets+ANet", "Liu et al., ICCV 2015 (arXiv 1411.7766), Table 1", 0, 87),
    ("FaceTracer", "Liu et al., ICCV 2015 (arXiv 1411.7766), Table 1", 0, 81),
)
"""Name, source, decimals and stated average of each column."""

_ACCURACY = {
    "5_o_Clock_Shadow": (92.85, 90, 91, 85),
    "Arched_Eyebrows": (81.37, 77, 79, 76),
    "Attractive": (80.71, 76, 81, 78),
    "Bags_Under_Eyes": (83.79, 81, 79, 76),
    "Bald": (98.3, 98, 98, 89),
    "Bangs": (94.1, 88, 95, 88),
    "Big_Lips": (70.14, 69, 68, 64),
    "Big_Nose": (83.67, 81, 78, 74),
    "Black_Hair": (88.39, 76, 88, 70),
    "Blond_Hair": (95.1, 91, 95, 80),
    "Blurry": (95.33, 95, 84, 81),
    "Brown_Hair": (86.55, 83, 80, 60),
    "Bushy_Eyebrows": (91.87, 88, 90, 80),
    "Chubby": (96.02, 95, 91, 86),
    "Double_Chin": (96.68, 96, 92, 88),
    "Eyeglasses": (98.67, 96, 99, 98),
    "Goatee": (96.72, 96, 95, 93),
    "Gray_Hair": (97.89, 97, 97, 90),
    "Heavy_Makeup": (89.49, 85, 90, 85),
    "High_Cheekbones": (86.77, 83, 87, 84),
    "Male": (97.38, 90, 98, 91),
    "Mouth_Slightly_Open": (93.67, 82, 92, 87),
    "Mustache": (96.6, 97, 95, 91),
    "Narrow_Eyes": (86.38, 86, 81, 82),
    "No_Beard": (94.87, 90, 95, 90),
    "Oval_Face": (73.33, 73, 66, 64),
    "Pale_Skin": (97.67, 96, 91, 83),
    "Pointy_Nose": (75.62, 73, 72, 68),
    "Receding_Hairline": (93.44, 96, 89, 76),
    "Rosy_Cheeks": (94.67, 94, 90, 84),
    "Sideburns": (97.65, 96, 96, 94),
    "Smiling": (92.28, 88, 92, 89),
    "Straight_Hair": (81.6, 80, 73, 63),
    "Wavy_Hair": (81.64, 72, 80, 73),
    "Wearing_Earrings": (84.61, 81, 82, 73),
    "Wearing_Hat": (98.92, 97, 99, 89),
    "Wearing_Lipstick": (92.52, 89, 93, 89),
    "Wearing_Necklace": (86.37, 87, 71, 68),
    "Wearing_Necktie": (96.3, 94, 93, 86),
    "Young": (87, 81, 87, 80),
}

TABLE_4: tuple[Column, ...] = tuple(
    Column(*method, {name: row[i] for name, row in _ACCURACY.items()})
    for i, method in enumerate(_METHODS)
)
"""Table 4's columns, in its order."""

TABLE_1 = {
    "as published": 92.05,
    "without reconstructor": 89.14,
    "without multi-label classifier": 88.12,
    "without both": 86.58,
}
"""Network -> average accuracy, in percent."""

TABLE_2 = {
    1: ((72, 0.98), (87, 0.95), (44, 0.94), (92, 0.94), (87, 0.94)),
    32: ((111, 0.96), (114, 0.95), (100, 0.95), (15, 0.94), (119, 0.94)),
    64: ((127, 0.97), (15, 0.97), (119, 0.97), (114, 0.97), (57, 0.97)),
}
"""Feature -> the five most correlated features, each with its correlation. The paper lists feature
87 twice."""

TABLE_3 = {
    "Black_Hair": ("Blond_Hair", "Brown_Hair", "Bald", "Wearing_Hat", "Gray_Hair"),
    "Heavy_Makeup": ("Wearing_Lipstick", "Male", "Rosy_Cheeks", "Attractive", "Young"),
    "Bushy_Eyebrows": (
        "Bags_Under_Eyes",
        "Eyeglasses",
        "Arched_Eyebrows",
        "Heavy_Makeup",
        "Attractive",
    ),
}
"""Attribute -> the five most correlated attributes; the paper prints no correlations."""
