"""Public motion data, and their download into the cache folder."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pooch
import requests
from dm_control.locomotion.mocap import cmu_mocap_data
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from vnl_envs.utils import checks
from vnl_envs.utils.files import written_whole

FOLDER_VARIABLE = "VNL_ENVS_DATA"
"""The environment variable that names another cache folder."""

# Time limit for a connection, and between two pieces of a file, s.
_TIMEOUT = 30
# Size of a piece, bytes; fewer are lost when a connection breaks.
_PIECE = 1 << 14


class DownloadError(RuntimeError):
    """A data set cannot be downloaded. The message has its name, the reason and a remedy."""


@dataclass(frozen=True)
class DataSet:
    """Published motion data.

    Attributes:
        name: name for `fetch`.
        body: name of the body.
        content: content and origin, one line.
        licence: licence, as an SPDX identifier if there is one.
        home: address of the publishers' page.
        how: description of the files, if they are downloaded by hand.
        url: address of the file to download; empty if that is done by hand.
        size: size of the file, bytes; None if unknown.
        sha256: checksum of the file; None if unknown, then the first download decides.
    """

    name: str
    body: str
    content: str
    licence: str
    home: str
    how: str = ""
    url: str = ""
    size: int | None = None
    sha256: str | None = None

    @property
    def file(self) -> str:
        """Name of the file in the cache folder."""
        return f"{self.name}{Path(urlsplit(self.url).path).suffix}"


_CMU = "may be copied, modified and redistributed without permission"

DATASETS = {
    data_set.name: data_set
    for data_set in (
        # Address, size and checksum are those that dm_control itself downloads by; the terms are
        # those of http://mocap.cs.cmu.edu/faqs.php, quoted there as well.
        DataSet(
            name="cmu-2020",
            body="humanoid",
            content="CMU motion capture, fitted to the CMU humanoid V2020 by dm_control",
            licence=_CMU,
            home="https://github.com/google-deepmind/dm_control",
            url=cmu_mocap_data.H5_URL["2020"],
            size=cmu_mocap_data.H5_BYTES["2020"],
            sha256=cmu_mocap_data.H5_SHA256["2020"],
        ),
        # The address is that of the README of talmolab/track-mjx. Its publishers give no checksum
        # beside it; this is the one that a public workshop's code, which downloads the same file,
        # checks its copy by. The size was not found, nor a licence: only that of the recordings.
        DataSet(
            name="mimic-mjx-rodent",
            body="rodent",
            content="842 clips of a rat, 5 s each, fitted by STAC-MJX (Zhang et al. 2025)",
            licence="not stated; of the recordings: ODC-By-1.0",
            home="https://huggingface.co/datasets/talmolab/MIMIC-MJX",
            url="https://huggingface.co/datasets/talmolab/MIMIC-MJX/resolve/main/"
            "data/rodent/rodent_reference_clips.h5",
            sha256="c7b02c16d6796f70e62169b5a5aeb65381ea5d42d8e9c75af95cd26b31fb638e",
        ),
        # Address: the data availability statement of doi.org/10.1038/s41586-024-07633-4.
        DataSet(
            name="aldarondo-2024",
            body="rodent",
            content="7 rats, 209 sessions, 595 h: 23 keypoints, behaviours (Aldarondo et al. 2024)",
            licence="ODC-By-1.0",
            home="https://doi.org/10.7910/DVN/FB0MZT",
            how="a file for each session, 65 GB in all",
            size=65_000_000_000,
        ),
        DataSet(
            name="cmu-amc",
            body="humanoid",
            content="CMU motion capture as recorded, a skeleton's joint angles at 120 Hz",
            licence=_CMU,
            home="http://mocap.cs.cmu.edu",
            how="an .amc file for each trial",
        ),
    )
}
"""Name -> data set, in the order of the printed list."""


@dataclass(frozen=True)
class Fetched:
    """A file in the cache folder.

    Attributes:
        path: path of the file.
        sha256: checksum of the file.
        trust: origin of the expected checksum: "known" in advance, "recorded" by an earlier
            download, or that of this "first" download, recorded now.
    """

    path: Path
    sha256: str
    trust: Literal["known", "recorded", "first"]


def data_folder() -> Path:
    """The folder of downloads: `VNL_ENVS_DATA`, or the platform's cache folder for programs."""
    return Path(os.environ.get(FOLDER_VARIABLE) or pooch.os_cache("vnl_envs")).expanduser()


def fetched(name: str, folder: Path | None = None) -> Path | None:
    """Path of a data set's file in the cache folder; None if it is not there."""
    path = (folder or data_folder()) / _get(name).file
    return path if DATASETS[name].url and path.is_file() else None


def fetch(
    name: str,
    folder: Path | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Fetched:
    """Download a data set into the cache folder, if it is not there.

    An interrupted download is continued if the server still has the same file. A file with a wrong
    checksum is removed.

    Args:
        name: one of `DATASETS`.
        folder: cache folder; None is `data_folder()`.
        progress: whether to show a progress bar on a terminal.
        say: function that is called with lines for people.

    Raises:
        ValueError: the name is unknown.
        DownloadError: the data set is downloaded by hand, or the download failed.
        PermissionError: the folder is not writable.
    """
    data_set = _get(name)
    if not data_set.url:
        raise DownloadError(f"{name} is downloaded by hand from {data_set.home}: {data_set.how}")
    folder = folder or data_folder()
    _make(folder)
    with _alone(folder, data_set, say):
        return _fetch(data_set, folder, progress, say)


def _get(name: str) -> DataSet:
    return DATASETS[checks.choice("data set", name, tuple(DATASETS))]


def _make(folder: Path) -> None:
    try:
        pooch.utils.make_local_storage(folder)
    except OSError as error:
        raise PermissionError(
            f"cannot write to the cache folder {str(folder)!r} ({error.strerror or 'not allowed'});"
            f" {FOLDER_VARIABLE} names another one"
        ) from None


@contextlib.contextmanager
def _alone(folder: Path, data_set: DataSet, say: Callable[[str], None]) -> Iterator[None]:
    """Context in which no other process downloads the same file to the same folder."""
    lock = FileLock(folder / f".{data_set.file}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{data_set.name}: waiting for another download of it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch(data_set: DataSet, folder: Path, progress: bool, say: Callable[[str], None]) -> Fetched:
    path = folder / data_set.file
    # In the format of the program sha256sum.
    record = path.with_name(path.name + ".sha256")
    recorded = record.read_text().split()[0] if record.exists() and path.exists() else None
    known = data_set.sha256 or recorded
    shelf = pooch.create(
        folder, base_url="", registry={path.name: known}, urls={path.name: data_set.url}
    )
    # Pooch's own messages are for programmers.
    pooch.get_logger().setLevel("WARNING")
    try:
        shelf.fetch(path.name, downloader=_Download(data_set, folder, progress, say))
    except ValueError:
        raise DownloadError(
            f"{data_set.name}: what {_host(data_set.url)} sent is damaged or another file than the "
            f"known one (checksum {known}), and was removed; see {data_set.home}"
        ) from None
    sha256 = known or pooch.file_hash(str(path))
    if known is None:
        with written_whole(record) as partial:
            partial.write_text(f"{sha256}  {path.name}\n")
    return Fetched(path, sha256, "known" if data_set.sha256 else "recorded" if known else "first")


@dataclass(frozen=True)
class _Offer:
    """Identity of a server's file."""

    size: int | None
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, response: requests.Response) -> _Offer:
        headers = response.headers
        # Header of a part: "bytes 100-199/200".
        part = re.fullmatch(r"bytes .*/(\d+)", headers.get("Content-Range", ""))
        size = part[1] if part else headers.get("Content-Length")
        return cls(int(size) if size else None, headers.get("ETag"), headers.get("Last-Modified"))


class _Download:
    """A downloader for Pooch, which checks the result and moves it into place.

    Pooch's own downloader always starts again. This one keeps its partial file after an
    interruption, and beside it the identity of the server's file, to continue later.
    """

    def __init__(
        self, data_set: DataSet, folder: Path, progress: bool, say: Callable[[str], None]
    ) -> None:
        self.data_set, self.progress, self.say = data_set, progress, say
        self.partial = folder / f"{data_set.file}.partial"
        self.memory = folder / f"{data_set.file}.partial.json"
        self.host = _host(data_set.url)

    def __call__(self, url: str, output_file: str, shelf: Any) -> None:
        """Download to `output_file`."""
        with self._clear_errors():
            if not self._complete():
                self._download(url)
            self.partial.replace(output_file)
            self.memory.unlink(missing_ok=True)

    def _have(self) -> int:
        """Number of bytes from an earlier download."""
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _remembered(self) -> _Offer | None:
        """Identity of the server's file in the earlier download; None if unknown."""
        try:
            return _Offer(**json.loads(self.memory.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _complete(self) -> bool:
        offer = self._remembered()
        return offer is not None and offer.size is not None and self._have() == offer.size

    def _download(self, url: str) -> None:
        offer = self._remembered()
        have = self._have() if offer else 0
        with self._get(url, have) as response:
            now = _Offer.of(response)
            resumed = response.status_code == requests.codes.partial_content
            if have and not (resumed and now == offer):
                self.say(
                    f"{self.data_set.name}: the server has another file now, or does not "
                    "resume: from the beginning"
                )
            if resumed and now != offer:
                # The server has another file now.
                self._forget()
                return self._download(url)
            have = have if resumed else 0
            self._expect(now, have)
            if have:
                self.say(f"{self.data_set.name}: resuming at {_megabytes(have)}")
            self.memory.write_text(json.dumps(dataclasses.asdict(now)))
            self._receive(response, have, now.size)
        if now.size is not None and self._have() != now.size:
            raise requests.ConnectionError("closed early")

    def _get(self, url: str, have: int) -> requests.Response:
        # Without compression, so that bytes can be counted.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
        if response.status_code == requests.codes.requested_range_not_satisfiable and have:
            response.close()
            self._forget()
            return self._get(url, 0)
        response.raise_for_status()
        return response

    def _forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.memory.unlink(missing_ok=True)

    def _expect(self, offer: _Offer, have: int) -> None:
        """Refuse a file of the wrong size, or too large for the disk, before it is downloaded."""
        known = self.data_set.size
        if known is not None and offer.size not in (None, known):
            self._forget()
            raise DownloadError(
                f"{self.data_set.name}: {self.host} has a file of {offer.size} bytes, the known one"
                f" has {known}; see {self.data_set.home}"
            )
        needed = (offer.size or 0) - have
        free = shutil.disk_usage(self.partial.parent).free
        if needed > free:
            raise self._full(f"{_megabytes(needed)} needed, {_megabytes(free)} free")

    def _receive(self, response: requests.Response, have: int, size: int | None) -> None:
        with (
            open(self.partial, "ab" if have else "wb") as file,
            tqdm(
                total=size,
                initial=have,
                desc=self.data_set.name,
                unit="B",
                unit_scale=True,
                disable=None if self.progress else True,
            ) as bar,
        ):
            for piece in response.iter_content(_PIECE):
                file.write(piece)
                bar.update(len(piece))

    def _full(self, how: str) -> DownloadError:
        return DownloadError(
            f"{self.data_set.name}: the disk of {str(self.partial.parent)!r} is full: {how}; "
            f"{FOLDER_VARIABLE} names another folder"
        )

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Context that turns every failure into an error of one line."""
        try:
            yield
        except requests.RequestException as error:
            raise self._failed(self._why(error)) from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise self._full(f"{_megabytes(self._have())} are here") from None
            raise

    def _why(self, error: requests.RequestException) -> str:
        if isinstance(error, requests.HTTPError) and error.response is not None:
            code = error.response.status_code
            reason = {401: "refuses it", 403: "refuses it", 404: "does not have it any more"}
            did = reason.get(code, "cannot give it now")
            return f"{self.host} {did} (HTTP {code}); see {self.data_set.home}"
        if isinstance(error, requests.Timeout) or "timed out" in str(error):
            return f"{self.host} did not answer for {_TIMEOUT} s"
        if self._have():
            return f"the connection to {self.host} broke or cannot be made"
        return f"cannot reach {self.host}; is this machine online?"

    def _failed(self, why: str) -> DownloadError:
        have = self._have()
        kept = f"; {_megabytes(have)} are here, the same command resumes" if have else ""
        return DownloadError(f"{self.data_set.name}: {why}{kept}")


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
