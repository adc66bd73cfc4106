"""TensorFlow Datasets without TensorFlow: find the builder of a data set and open one of its splits."""

import contextlib
import difflib
import re
import socket
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from mixmin_jax.errors import InputError

TFDS_PREFIX = "tfds:"

_FORMAT = "array_record"  # random access; TFDS's default format needs TensorFlow to be read


def find_builder(spec: str, dataset: str, data_dir: str | None = None) -> Any:
    """The builder of a data set in TFDS.

    Args:
        spec: what the user wrote, for messages.
        dataset: the name, with an optional config and version (`paws_x_wiki/en`, `cifar10:3.0.2`).
        data_dir: folder of prepared data sets; None: that of TFDS.

    Raises:
        InputError: an unknown data set (with the closest names), config or version.
    """
    import tensorflow_datasets as tfds  # here: the import takes half a second

    try:
        return tfds.builder(dataset, data_dir=data_dir, file_format=_FORMAT)
    except tfds.core.DatasetNotFoundError as error:
        close = difflib.get_close_matches(dataset, tfds.list_builders(with_community_datasets=False), n=5)
        hint = f"; close names: {', '.join(close)}" if close else ""
        raise InputError(f"{spec}: TFDS knows no data set {dataset!r}, and none is prepared on disk{hint}") from error
    except Exception as error:  # of many kinds: configs, versions, broken folders
        raise InputError(f"{spec}: {_first_line(error)}") from error


def default_name(spec: str) -> str:
    """A name that can serve as a folder: `tfds:paws_x_wiki/en:sentence1@test` -> `paws_x_wiki_en_sentence1_test`."""
    return re.sub(r"[^\w.-]+", "_", spec.removeprefix(TFDS_PREFIX)).strip("_")


def open_split(spec: str, builder: Any, split: str, decoders: Any = None) -> Sequence[Any]:
    """The examples of a split, with random access. A data set that is not on disk is downloaded and prepared.

    Args:
        spec, builder: as given to `find_builder`, and what it returned.
        split: name of the split.
        decoders: as in TFDS.

    Raises:
        InputError: an unknown split, a data set prepared in another file format, or one that is not prepared and
            cannot be downloaded (immediately if there is no network).
    """
    is_prepared = builder.is_prepared()
    if not is_prepared:
        _check_network(spec, builder)
    try:
        if not is_prepared:
            builder.download_and_prepare()
        return builder.as_data_source(split, decoders=decoders)
    except Exception as error:  # of many kinds: downloads, archives, the data set's own code
        hint = "" if is_prepared else f"; {_how_to_prepare(builder)}"
        raise InputError(f"{spec}: cannot be read ({_first_line(error)}){hint}") from error


def _check_network(spec: str, builder: Any) -> None:
    """Raise InputError immediately if no download can succeed; TFDS would retry for minutes."""
    hosts = sorted({host for url in builder.url_infos if (host := urlsplit(url).hostname)})
    if not hosts or urllib.request.getproxies():  # nothing to look up, or a proxy does it
        return
    for host in hosts:
        with contextlib.suppress(OSError):
            socket.getaddrinfo(host, 443)
            return
    raise InputError(
        f"{spec}: not prepared in {builder.data_dir}, and there is no network to fetch it from {', '.join(hosts)}; "
        + _how_to_prepare(builder)
    )


def _how_to_prepare(builder: Any) -> str:
    return (
        f"prepare it where there is a network, with tfds.builder({builder.info.name!r}, file_format={_FORMAT!r})"
        ".download_and_prepare(), and copy its folder to ~/tensorflow_datasets or set TFDS_DATA_DIR"
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
