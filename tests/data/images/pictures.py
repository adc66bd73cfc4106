"""Random pictures, their files, and archives of files."""

import io
import tarfile

import numpy as np
from PIL import Image


def pixels(seed, height=4, width=4, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def encode(array, kind="PNG", **options):
    stream = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(stream, kind, **options)
    return stream.getvalue()


def tar_of(files, mode="w"):
    """An archive; None stands for a folder's entry, a TarInfo for a member without bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, data in files.items():
            member = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if data is None:
                member.type = tarfile.DIRTYPE
            content = data if isinstance(data, bytes) else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
