"""Downloads against a server on this machine: whole, resumed, damaged, refused, side by side."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vnl_envs.motion import downloads
from vnl_envs.motion.downloads import DATASETS, DataSet, DownloadError, fetch, fetched

CONTENT = bytes(range(256)) * 8192
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CUT = 700_001
# Of what was sent, what was also kept: up to a small piece of it.
KEPT = CUT // downloads._PIECE * downloads._PIECE


@dataclass
class Server:
    """What a test wants of the server, and what the server saw.

    Attributes:
        url: of its one file.
        content: what it has.
        etag: of the file; None sends none.
        ranges: whether parts can be asked for.
        cut: close the connection after so many bytes of an answer.
        status: answer with this error instead.
        wait: an answer begins only when this is set.
        asked: the Range header of every request.
        sent: bytes of every answer.
    """

    url: str = ""
    content: bytes = CONTENT
    etag: str | None = '"1"'
    ranges: bool = True
    cut: int | None = None
    status: int | None = None
    wait: threading.Event | None = None
    asked: list[str | None] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with one file."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.wait is not None:
                state.wait.wait(10)
            if state.status is not None:
                self.send_error(state.status)
                return
            total, first = len(state.content), 0
            if wanted and state.ranges:
                first = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if first >= total:
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
            else:
                self.send_response(200)
            body = state.content[first:]
            self.send_header("Content-Length", str(len(body)))
            if state.etag:
                self.send_header("ETag", state.etag)
            body = body[: state.cut]
            # Before the client hears of it, and can ask anew in another thread.
            state.sent.append(len(body))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}/some/file.h5?download=true"
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield state
        http.shutdown()


@pytest.fixture
def offered(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Offer the server's file as the data set "rats", with what is given changed."""

    def offer(**changes: Any) -> None:
        rats = DataSet("rats", "rodent", "rats", "CC0-1.0", "http://home", url=server.url,
                       size=len(CONTENT), sha256=SHA256)  # fmt: skip
        monkeypatch.setitem(DATASETS, "rats", replace(rats, **changes))

    offer()
    return offer


def left(folder: Path) -> set[str]:
    """Files in the cache folder, locks not counted."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def refused(folder: Path) -> str:
    """The one line that says why a download failed."""
    with pytest.raises(DownloadError) as error:
        fetch("rats", folder)
    text = str(error.value)
    assert text.startswith("rats")
    assert "\n" not in text
    return text


def interrupt(server: Server, folder: Path) -> None:
    """A download whose connection breaks after `CUT` bytes."""
    server.cut = CUT
    text = refused(folder)
    assert "0.7 MB are here" in text
    assert "resumes" in text
    assert left(folder) == {"rats.h5.partial", "rats.h5.partial.json"}
    assert (folder / "rats.h5.partial").stat().st_size == KEPT
    server.cut = None


@pytest.mark.usefixtures("offered")
def test_whole_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    """The second time it is there already."""
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        got = fetch("rats", folder)
        assert got.path == folder / "rats.h5"
        assert got.path.read_bytes() == CONTENT
        assert (got.sha256, got.trust) == (SHA256, "known")
    assert left(folder) == {"rats.h5"}
    assert server.sent == [len(CONTENT)]
    assert fetched("rats", folder) == folder / "rats.h5"


@pytest.mark.usefixtures("offered")
def test_interrupted_download_is_resumed(server: Server, tmp_path: Path) -> None:
    """Only the rest is asked for and sent."""
    interrupt(server, tmp_path)
    said: list[str] = []
    got = fetch("rats", tmp_path, say=said.append)
    assert got.path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={KEPT}-"]
    assert server.sent == [CUT, len(CONTENT) - KEPT]
    assert said == ["rats: resuming at 0.7 MB"]
    assert left(tmp_path) == {"rats.h5"}


@pytest.mark.usefixtures("offered")
def test_interrupted_by_the_user(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there stays and is continued."""

    class Bar:
        def __init__(self, **_: Any) -> None: ...

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, _: int) -> None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(downloads, "tqdm", Bar)
        with pytest.raises(KeyboardInterrupt):
            fetch("rats", tmp_path)
    have = (tmp_path / "rats.h5.partial").stat().st_size
    assert 0 < have < len(CONTENT)
    assert fetch("rats", tmp_path).path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={have}-"]


@pytest.mark.usefixtures("offered")
def test_complete_but_not_yet_in_place(server: Server, tmp_path: Path) -> None:
    """Killed between the last byte and the renaming: nothing is downloaded again."""
    interrupt(server, tmp_path)
    (tmp_path / "rats.h5.partial").write_bytes(CONTENT)
    assert fetch("rats", tmp_path).path.read_bytes() == CONTENT
    assert server.asked == [None]


@pytest.mark.parametrize(
    "change",
    [
        {"ranges": False},
        {"etag": '"2"'},
        {"etag": None},
        {"content": CONTENT[: KEPT - 1], "etag": '"2"'},
        {"content": CONTENT + b"more"},
    ],
    ids=["no ranges", "other file", "no etag any more", "shorter than the part", "longer"],
)
@pytest.mark.parametrize("known", [True, False])
def test_what_cannot_be_resumed_begins_anew(
    server: Server, offered: Callable[..., None], tmp_path: Path, change: dict[str, Any],
    known: bool,
) -> None:  # fmt: skip
    """Parts of two files are never joined, whether or not a checksum would show it."""
    interrupt(server, tmp_path)
    for name, value in change.items():
        setattr(server, name, value)
    sha256 = hashlib.sha256(server.content).hexdigest() if known else None
    offered(size=None, sha256=sha256)
    said: list[str] = []
    assert fetch("rats", tmp_path, say=said.append).path.read_bytes() == server.content
    assert server.sent[-1] == len(server.content)
    assert len(said) == 1
    assert "from the beginning" in said[0]


@pytest.mark.usefixtures("offered")
def test_part_without_memory_begins_anew(server: Server, tmp_path: Path) -> None:
    """Bytes of an unknown file are not continued."""
    interrupt(server, tmp_path)
    (tmp_path / "rats.h5.partial.json").write_text("{")
    assert fetch("rats", tmp_path).path.read_bytes() == CONTENT
    assert server.asked == [None, None]


@pytest.mark.usefixtures("offered")
def test_damaged_file_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    """And the next time it is downloaded as a whole."""
    server.content = CONTENT[:-1] + b"x"
    text = refused(tmp_path)
    assert SHA256 in text
    assert "removed" in text
    assert left(tmp_path) == set()
    server.content = CONTENT
    assert fetch("rats", tmp_path).path.read_bytes() == CONTENT


@pytest.mark.usefixtures("offered")
def test_file_damaged_in_the_cache_is_replaced(server: Server, tmp_path: Path) -> None:
    """A file that was there does not count because of its name."""
    (tmp_path / "rats.h5").write_bytes(CONTENT[:-5])
    assert fetch("rats", tmp_path).path.read_bytes() == CONTENT
    assert server.sent == [len(CONTENT)]


@pytest.mark.usefixtures("offered")
def test_wrong_size_is_refused_before_it_is_downloaded(server: Server, tmp_path: Path) -> None:
    """The length that the server says is enough."""
    server.content = CONTENT + b"more"
    text = refused(tmp_path)
    assert str(len(CONTENT)) in text
    assert str(len(server.content)) in text
    assert left(tmp_path) == set()


def test_first_download_decides_where_no_checksum_is_known(
    server: Server, offered: Callable[..., None], tmp_path: Path
) -> None:
    """Its checksum is recorded in the format of sha256sum, and holds from then on."""
    offered(sha256=None)
    assert fetch("rats", tmp_path).trust == "first"
    assert (tmp_path / "rats.h5.sha256").read_text() == f"{SHA256}  rats.h5\n"
    assert fetch("rats", tmp_path).trust == "recorded"
    (tmp_path / "rats.h5").write_bytes(b"other")
    server.content = CONTENT[:-1] + b"x"
    assert SHA256 in refused(tmp_path)


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "does not have it any more"), (403, "refuses"), (401, "refuses"), (503, "HTTP 503")],
)
def test_errors_of_the_server(server: Server, tmp_path: Path, status: int, words: str) -> None:
    """The server, the number and the page of the data set; what is there stays."""
    server.status = status
    text = refused(tmp_path)
    assert words in text
    assert str(status) in text
    assert "127.0.0.1" in text
    assert "http://home" in text
    assert left(tmp_path) == set()
    server.status = None
    interrupt(server, tmp_path)
    server.status = status
    assert "resumes" in refused(tmp_path)
    assert (tmp_path / "rats.h5.partial").stat().st_size == KEPT


def test_offline(offered: Callable[..., None], tmp_path: Path) -> None:
    """A port that nobody listens on."""
    offered(url="http://127.0.0.1:9/file.h5")
    text = refused(tmp_path)
    assert "127.0.0.1:9" in text
    assert "online" in text
    assert left(tmp_path) == set()


@pytest.mark.usefixtures("offered")
def test_silent_server(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and says nothing."""
    monkeypatch.setattr(downloads, "_TIMEOUT", 0.2)
    server.wait = threading.Event()
    text = refused(tmp_path)
    server.wait.set()
    assert "did not answer for 0.2 s" in text


@pytest.mark.usefixtures("offered", "server")
def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before the download where it can be foreseen."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    text = refused(tmp_path)
    assert "full" in text
    assert "2.1 MB" in text
    assert "VNL_ENVS_DATA" in text
    assert left(tmp_path) == set()


@pytest.mark.usefixtures("offered", "server")
def test_disk_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in one line where it could not be foreseen."""

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads._Download, "_receive", fail)
    assert "full" in refused(tmp_path)


@pytest.mark.usefixtures("offered")
def test_side_by_side(server: Server, tmp_path: Path) -> None:
    """Several that want the same file: one downloads, the others wait and find it."""
    server.wait = threading.Event()
    said: list[str] = []
    results: list[bytes] = []

    def work() -> None:
        results.append(fetch("rats", tmp_path, say=said.append).path.read_bytes())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    while len(said) < 3 and any(worker.is_alive() for worker in workers):
        workers[0].join(0.01)
    server.wait.set()
    for worker in workers:
        worker.join(30)
    assert results == [CONTENT] * 4
    assert server.sent == [len(CONTENT)]
    assert said == ["rats: waiting for another download of it"] * 3


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The platform's, unless the variable says otherwise."""
    import platformdirs

    monkeypatch.setenv("VNL_ENVS_DATA", str(tmp_path))
    assert downloads.data_folder() == tmp_path
    monkeypatch.setenv("VNL_ENVS_DATA", "~/motion")
    assert downloads.data_folder() == Path.home() / "motion"
    monkeypatch.delenv("VNL_ENVS_DATA")
    assert downloads.data_folder() == Path(platformdirs.user_cache_dir("vnl_envs"))


def test_cache_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The variable is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match="VNL_ENVS_DATA"):
        fetch("cmu-2020", tmp_path / "file" / "folder")


def test_table() -> None:
    """Every row says what users need; addresses are https; the CMU file is dm_control's."""
    for name, data_set in DATASETS.items():
        assert name == data_set.name
        assert data_set.body in ("rodent", "humanoid")
        assert data_set.content
        assert data_set.licence
        assert data_set.home.startswith("http")
        # One of both: an address, or how it is had by hand.
        assert bool(data_set.url) != bool(data_set.how)
        if data_set.url:
            assert data_set.url.startswith("https://")
            assert data_set.file.endswith(".h5")
        else:
            with pytest.raises(DownloadError, match=f"by hand from {data_set.home}"):
                fetch(name)
    from dm_control.locomotion.mocap import cmu_mocap_data

    assert DATASETS["cmu-2020"].sha256 == cmu_mocap_data.H5_SHA256["2020"]
    with pytest.raises(ValueError, match="'cmu-2020'"):
        fetch("rabbits")
