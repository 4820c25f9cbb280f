"""Drawn training data in the folders of the development data, and its manifest."""

import csv

import cv2

from model.data.layouts.development import read_development
from model.data.manifest import write_manifest


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


def import_development(data_dir, folder):
    """Import the real development data into a manifest in another folder."""
    from model.data.manifest import rebased

    path = folder / "manifest.csv"
    write_manifest(path, [rebased(row, data_dir, folder) for row in read_development(data_dir)])
    return path
