"""Numbers that others published on CelebA, to stand beside ours.

Every number is copied from a source named here, in percent, as published; what no source at hand
states is left out, never estimated. So Table 4 of Kimura and Tanaka (arXiv 1905.02719) is not
complete here:

- their own accuracy: the average only, not the 40 attributes; it and Table 1 are taken from this
  project's design notes on the paper and were not checked against the paper's own tables;
- MT-RBM PCA (Ehrlich et al., CVPR Workshops 2016): nothing;
- LNets+ANet and FaceTracer: all 40 attributes and the averages, from Table 1 of Liu et al.,
  "Deep Learning Face Attributes in the Wild" (ICCV 2015, arXiv 1411.7766), who measured both on
  CelebA and print whole percents.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """One method's published accuracy on CelebA's test split."""

    name: str
    """How tables call the method."""

    source: str
    """The publication that states the numbers."""

    average: float | None = None
    """Percent, as published (not recomputed from `accuracy`); None: no source at hand."""

    accuracy: dict[str, float] = field(default_factory=dict)
    """Attribute -> percent, as published; an attribute without a source is absent."""


_LIU = "Liu et al., ICCV 2015 (arXiv 1411.7766), Table 1"

_LNETS_ANET_AND_FACETRACER = {
    "5_o_Clock_Shadow": (91, 85),
    "Arched_Eyebrows": (79, 76),
    "Attractive": (81, 78),
    "Bags_Under_Eyes": (79, 76),
    "Bald": (98, 89),
    "Bangs": (95, 88),
    "Big_Lips": (68, 64),
    "Big_Nose": (78, 74),
    "Black_Hair": (88, 70),
    "Blond_Hair": (95, 80),
    "Blurry": (84, 81),
    "Brown_Hair": (80, 60),
    "Bushy_Eyebrows": (90, 80),
    "Chubby": (91, 86),
    "Double_Chin": (92, 88),
    "Eyeglasses": (99, 98),
    "Goatee": (95, 93),
    "Gray_Hair": (97, 90),
    "Heavy_Makeup": (90, 85),
    "High_Cheekbones": (87, 84),
    "Male": (98, 91),
    "Mouth_Slightly_Open": (92, 87),
    "Mustache": (95, 91),
    "Narrow_Eyes": (81, 82),
    "No_Beard": (95, 90),
    "Oval_Face": (66, 64),
    "Pale_Skin": (91, 83),
    "Pointy_Nose": (72, 68),
    "Receding_Hairline": (89, 76),
    "Rosy_Cheeks": (90, 84),
    "Sideburns": (96, 94),
    "Smiling": (92, 89),
    "Straight_Hair": (73, 63),
    "Wavy_Hair": (80, 73),
    "Wearing_Earrings": (82, 73),
    "Wearing_Hat": (99, 89),
    "Wearing_Lipstick": (93, 89),
    "Wearing_Necklace": (71, 68),
    "Wearing_Necktie": (93, 86),
    "Young": (87, 80),
}

TABLE_4: tuple[Column, ...] = (
    Column("paper", "Kimura and Tanaka, arXiv 1905.02719, Table 4", 92.05),
    Column("MT-RBM PCA", "Ehrlich et al., CVPR Workshops 2016"),
    Column("LNets+ANet", _LIU, 87, {k: v[0] for k, v in _LNETS_ANET_AND_FACETRACER.items()}),
    Column("FaceTracer", _LIU, 81, {k: v[1] for k, v in _LNETS_ANET_AND_FACETRACER.items()}),
)
"""Table 4's columns, in its order; what is missing, and why, stands at the top of this file."""

TABLE_1: dict[str, float] = {
    "full": 92.05,
    "without reconstructor": 89.14,
    "without multi-label classifier": 88.12,
    "without both": 86.58,
}
"""The ablation of Kimura and Tanaka (Table 1): average accuracy on CelebA, percent."""
