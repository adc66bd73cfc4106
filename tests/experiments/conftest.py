"""Figures cost half of the time of a tiny run: tests of whole runs write what is in them instead of drawing them.

The tests of figures, which are called test_figures.py or stand in `reporting`, draw them.
"""

import hashlib
import io

import matplotlib.text
import numpy as np
import pytest
from matplotlib.collections import Collection
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from experiments.reporting import figures


def written(figure, format, metadata):
    """A small image that is another one where the figure's texts, lines, points, bars or images are others."""
    digest = hashlib.sha256()
    for artist in figure.findobj():
        if isinstance(artist, matplotlib.text.Text):
            digest.update(artist.get_text().encode())
        elif isinstance(artist, Line2D):
            digest.update(repr(artist.get_data()).encode())
        elif isinstance(artist, Collection):
            digest.update(np.asarray(artist.get_offsets()).tobytes())
        elif isinstance(artist, Patch):
            digest.update(artist.get_path().vertices.tobytes() + artist.get_transform().get_matrix().tobytes())
        elif isinstance(artist, AxesImage):
            digest.update(np.asarray(artist.get_array()).tobytes())
    buffer = io.BytesIO()
    Image.frombytes("L", (8, 8), 2 * digest.digest()).save(buffer, "png")
    return buffer.getvalue() if format == "png" else f"<svg>{digest.hexdigest()}</svg>".encode()


DRAWN = figures._saved


@pytest.fixture(scope="session", autouse=True)
def no_drawing():
    """Before any run that several modules share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_saved", written)
        yield


@pytest.fixture(scope="module", autouse=True)
def drawing(request, no_drawing):
    with pytest.MonkeyPatch.context() as patch:
        if request.path.name == "test_figures.py" or request.path.parent.name == "reporting":
            patch.setattr(figures, "_saved", DRAWN)
        yield
