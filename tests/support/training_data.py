"""Drawn training data in the folders of the development data, and its manifest."""

import csv
from dataclasses import replace

import cv2
import numpy as np

from model.data.dataset import Split
from model.data.layouts.development import read_development
from model.data.manifest import read_manifest, write_manifest


class DrawnData:
    """A folder like that of the development data, to be filled with drawn files."""

    def __init__(self, folder):
        self.folder = folder
        self._rows = []

    def add(self, path, image, label, patient=""):
        """Draw an image into the folder and list it."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), image)
        self.list(path, label, patient)

    def list(self, path, label, patient=""):
        """List a file that is there."""
        self._rows.append({"path": path, "label": label, "patient": patient})

    def manifest(self):
        """Write the folder's list and return the manifest that was imported from it."""
        with (self.folder / "MANIFEST.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["path", "label", "patient"])
            writer.writeheader()
            writer.writerows(self._rows)
        path = self.folder / "manifest.csv"
        write_manifest(path, read_development(self.folder))
        return path


def draw_three_sources(folder):
    """Draw COVID-CT, LUNA16 and SemiSeg, eight slices of each class; return their manifest."""
    data = DrawnData(folder)
    generator = np.random.default_rng(0)
    add = data.add
    for split in ("train", "val"):
        for label in ("COVID", "NonCOVID"):
            for number in range(4):
                figure = _figure(generator, covid=label == "COVID")
                add(f"covid-ct/{split}/{label}/{number}.png", figure, label, f"{split}{number}")
    for number in range(8):
        add(f"luna-noncovid/{number}.png", _figure(generator, covid=False), "NonCOVID", str(number))
    for number in range(8):
        figure = _figure(np.random.default_rng(number), covid=True)
        turned = np.rot90(figure, number % 4).copy()
        add(f"covid-semiseg/train/img/{number}.png", turned.T, "COVID")
        mask = ((turned > 120) & (turned < 180)).astype(np.uint8) * 255
        add(f"covid-semiseg/train/mask/{number}.png", mask.T, "mask")
    path = data.manifest()
    # Nobody knows the patients of these: their near duplicates follow, the others train.
    measured = "covid-semiseg/train/img/6.png"
    write_manifest(
        path,
        [
            replace(row, split=Split.VALIDATION) if row.path == measured else row
            for row in read_manifest(path).rows
        ],
    )
    return path


def import_development(data_dir, folder):
    """Import the real development data into a manifest in another folder."""
    from model.data.manifest import rebased

    path = folder / "manifest.csv"
    write_manifest(path, [rebased(row, data_dir, folder) for row in read_development(data_dir)])
    return path


def _figure(generator, *, covid):
    figure = np.zeros((96, 128), np.uint8)
    figure[8:-8, 8:-8] = 220
    figure[20:-20, 20:56] = figure[20:-20, 72:108] = 40
    if covid:
        row = int(generator.integers(30, 50))
        figure[row : row + 20, 24:48] = 140
    return figure + generator.integers(0, 20, figure.shape).astype(np.uint8)
