"""What the pages of results say around their tables."""

from __future__ import annotations

from model.experiments.experiment import Table

TITLES = {
    Table.TABLE2: "Table 2 of the paper at a reduced scale",
    Table.BASELINES: "The systems the paper measures itself against, at a short common budget",
}

_REDUCED = (
    "There is no GPU here, so the runs are small, and their figures are **not comparable with the "
    "paper's**: other and fewer data, another test set, smaller networks, far fewer steps."
)

BEFORE = {
    Table.TABLE2: f"""\
Made by `lungwatch experiments run table2` and `lungwatch experiments table`.

{_REDUCED}

What is reduced, for all rows alike:

- 8 maps in the first level instead of 64; the CNN keeps its 8, which are the paper's.
- 128 x 128 stands for 256 x 256, and 256 x 256 for 512 x 512.
- Batch normalisation in every row; the paper has none. In a quick probe without it the segmentation
  branch died.
- A fixed, small number of steps instead of up to 500 epochs (1,500 for the CNN) with early
  stopping; a higher learning rate that falls.
- Two images of each batch are reconstructed instead of all.
- The public part of the data, with other sources in place of the private ones: COVID-CT, a half
  of the slices with lesion masks, LUNA16, TCGA-LUAD. Images without a mask give no segmentation
  loss; none counts as empty.

The class figures are those of the COVID-CT figures, the only source with both classes. Dice is the
mean over the held-out slices with a mask, all of one source.""",
    Table.BASELINES: f"""\
Made by `lungwatch experiments run baselines` and `lungwatch experiments table`.

{_REDUCED} The published figures are of other data, most of them X-rays, and of networks that
started from ImageNet weights; here all start from random ones, unless a file of weights is given
with `--imagenet-weights`. The published networks have their full width; U-Net++, the four-class
CNN and the capsule network an eighth of it. Batch normalisation everywhere the network leaves a
choice. The four-class CNN has its four classes, but the data name one of them, COVID-19, against
the rest; see `model/baselines/four_class_cnn.py`.""",
}

AFTER = {
    Table.TABLE2: """\
The steps are few: one thread of a busy machine, minutes a row. The rows may be caught while they
learn, and the order may be mostly that of learning speed: a network with fewer tasks spends all of
a short run on the one it is measured by. Shorter runs came before this one and were reported on the
same images (`docs/results/log.md`).

Rows whose intervals overlap are not told apart: one seed, one split, a dozen slices with masks and
about a hundred figures. Where intervals do part, they say how the rows stand after so few steps,
not how they would end. So the table neither supports the paper's claim that the tasks help each
other nor refutes it; what it shows against the claim is said above.""",
    Table.BASELINES: """\
A budget this short says which systems learn quickly from random weights, not which are good. It is
no ranking. With `--steps` and ImageNet weights the same commands give each its due.""",
}
