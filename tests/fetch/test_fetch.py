"""Getting files, from a server on the loopback interface: slow, cut off, wrong, missing, moved."""

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from merged_diffusion import fetch
from merged_diffusion.catalogue import entries
from merged_diffusion.catalogue.cache import cache_folder, cached, hub_folder
from merged_diffusion.catalogue.fetched import recorded_sha256
from merged_diffusion.errors import (
    CheckpointError,
    DataIntegrityError,
    DataNotFoundError,
    ResourceError,
    RunLockedError,
    StorageError,
    UsageError,
)
from merged_diffusion.fetch import hub, patience, transfer
from merged_diffusion.fetch.patience import PIECE

BODY = bytes(range(256)) * 1000
KEPT = len(BODY) // 2 // PIECE * PIECE  # of what came before a cut in the middle
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Server:
    """Serves ``files``; ``faults[path]`` are taken in turn: cut, stall, slow, html, 404, 503, an address."""

    address: str = ""
    files: dict = field(default_factory=dict)
    faults: dict = field(default_factory=dict)
    ranges: bool = True
    marks: bool = True
    declares: bool = True
    requests: list = field(default_factory=list)

    def answer(self, request, *, with_body):
        path = request.path
        self.requests.append((request.command, path, request.headers.get("Range")))
        body = self.files.get(path.partition("?")[0])
        queue = self.faults.get(path, [])
        fault = queue.pop(0) if queue and with_body else None
        if fault == "slow headers":
            for k in range(1000):
                request.wfile.write(b"H" if k else b"HTTP/1.1 200 O")
                time.sleep(0.02)
        if isinstance(fault, int) and fault == 999:
            request.send_response(999)
            request.send_header("Content-Length", "2")
            request.end_headers()
            request.wfile.write(b"no")
            return
        if isinstance(fault, str) and fault.startswith("http"):
            request.send_response(302)
            request.send_header("Location", fault)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if body is None or fault in (404, 503):
            request.send_error(fault or 404)
            return
        start, mark = 0, f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        wish = request.headers.get("Range") if self.ranges else None
        if wish is not None and request.headers.get("If-Range") in (None, mark):
            start = int(wish.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body) > 0:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(body)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Type", "text/html" if fault == "html" else "application/octet-stream")
        if self.declares:
            request.send_header("Content-Length", str(len(body) - start))
        if self.marks:
            request.send_header("ETag", mark)
        request.end_headers()
        if not with_body:
            return
        middle = start + (len(body) - start) // 2
        if fault == "drip":
            for k in range(start, len(body)):
                request.wfile.write(body[k : k + 1])
                time.sleep(0.02)
        request.wfile.write(body[start:middle])
        if fault == "stall":
            time.sleep(1.0)
        if fault in ("cut", "stall"):
            request.close_connection = True
            return
        if fault == "slow":
            time.sleep(0.2)
        request.wfile.write(body[middle:])


@pytest.fixture
def server():
    world = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            world.answer(self, with_body=True)

        def do_HEAD(self):
            world.answer(self, with_body=False)

        def log_message(self, *args):
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            """A client that went away is part of the tests."""

    http = Quiet(("127.0.0.1", 0), Handler)
    world.address = f"http://127.0.0.1:{http.server_port}"
    world.files["/set.bin"] = BODY
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield world
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def item(server, tmp_path):
    """``item(sha256=...)``: the file of the server, as data."""

    def make(path="/set.bin", kind="data", **facts):
        entry = entries.Public(kind, "set", "a set", f"data{path}")
        return fetch.Item(entry, server.address + path, tmp_path / "data" / path[1:], **facts)

    return make


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(transfer, "TIMEOUTS", (0.3, 0.3))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_file_arrives_whole_and_its_hash_is_recorded(item, tmp_path):
    seen = []
    assert fetch.bring(item(), tmp_path, lambda done, whole: seen.append((done, whole))) == SHA256
    assert (tmp_path / "data" / "set.bin").read_bytes() == BODY
    assert names(tmp_path) == ["hashes.json", "set.bin"]
    assert recorded_sha256(tmp_path / "data" / "set.bin", tmp_path) == SHA256
    assert seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_slow_server_is_waited_for(item, server, tmp_path):
    server.faults["/set.bin"] = ["slow"]
    assert fetch.bring(item(), tmp_path) == SHA256


@pytest.mark.parametrize("fault", ["cut", "stall", 503])
@pytest.mark.parametrize("marks", [True, False])
def test_goes_on_after_a_cut(item, server, tmp_path, fault, marks):
    server.marks = marks
    server.faults["/set.bin"] = [fault]
    assert fetch.bring(item(sha256=SHA256), tmp_path) == SHA256
    ranges = [wish for command, _, wish in server.requests if command == "GET"]
    assert ranges == [None, None if fault == 503 else f"bytes={KEPT}-"]


def test_next_command_goes_on_where_the_last_was_cut_off(item, server, tmp_path, monkeypatch):
    server.faults["/set.bin"] = ["cut", *[503] * 9]
    with pytest.raises(ResourceError, match="503") as error:
        fetch.bring(item(), tmp_path)
    assert error.value.exit_code == 8
    assert "again" in error.value.hint
    assert names(tmp_path) == ["set.bin.part", "set.bin.part.json"]
    server.faults.clear()
    assert fetch.bring(item(), tmp_path) == SHA256
    assert server.requests[-1][2] == f"bytes={KEPT}-"


def test_server_without_ranges_begins_again(item, server, tmp_path):
    server.ranges = False
    server.faults["/set.bin"] = ["cut"]
    assert fetch.bring(item(), tmp_path) == SHA256


def test_rest_of_another_version_is_not_joined_to_the_beginning(item, server, tmp_path):
    server.faults["/set.bin"] = ["cut", *[503] * 9]
    with pytest.raises(ResourceError):
        fetch.bring(item(), tmp_path)
    server.faults.clear()
    server.files["/set.bin"] = BODY[::-1]
    assert fetch.bring(item(), tmp_path) == hashlib.sha256(BODY[::-1]).hexdigest()


def test_unmarked_beginning_of_an_unknown_file_is_not_trusted(item, server, tmp_path):
    server.marks = False
    server.faults["/set.bin"] = ["cut"]
    assert fetch.bring(item(), tmp_path) == SHA256
    assert [wish for *_, wish in server.requests] == [None, None]


def test_part_that_was_whole_already_is_taken(item, server, tmp_path):
    wish = item(sha256=SHA256)
    wish.target.parent.mkdir()
    wish.target.with_name("set.bin.part").write_bytes(BODY)
    assert fetch.bring(wish, tmp_path) == SHA256
    assert names(tmp_path) == ["hashes.json", "set.bin"]


def test_part_longer_than_the_file_is_begun_again(item, server, tmp_path):
    wish = item(sha256=SHA256)
    wish.target.parent.mkdir()
    wish.target.with_name("set.bin.part").write_bytes(BODY + b"more")
    assert fetch.bring(wish, tmp_path) == SHA256


@pytest.mark.parametrize(
    ("kind", "error", "code"), [("data", DataIntegrityError, 3), ("expert", CheckpointError, 4)]
)
def test_wrong_hash_is_refused_and_the_file_kept_under_another_name(
    item, server, tmp_path, kind, error, code
):
    wish = item(kind=kind, sha256="0" * 64)
    with pytest.raises(error, match=SHA256) as caught:
        fetch.bring(wish, tmp_path)
    assert caught.value.exit_code == code
    assert caught.value.fields["expected"] == "0" * 64
    assert caught.value.fields["found"] == SHA256
    assert names(tmp_path) == [f"set.bin.refused-{SHA256[:12]}"]
    assert len(server.requests) == 1  # not silently downloaded again


def test_fetched_file_that_changed_is_refused_not_replaced(item, server, tmp_path):
    wish = item(sha256=SHA256)
    fetch.bring(wish, tmp_path)
    wish.target.write_bytes(b"something else")
    with pytest.raises(DataIntegrityError, match="it changed since"):
        fetch.bring(wish, tmp_path)
    assert wish.target.read_bytes() == b"something else"
    assert len(server.requests) == 1


def test_file_that_the_user_placed_is_left_with_a_warning(item, server, tmp_path, caplog):
    wish = item(sha256=SHA256)
    wish.target.parent.mkdir()
    wish.target.write_bytes(b"cut down")
    assert fetch.bring(wish, tmp_path) == hashlib.sha256(b"cut down").hexdigest()
    assert SHA256 in caplog.text
    assert not server.requests


def test_first_hash_of_a_file_is_that_of_all_later_downloads(server, tmp_path, monkeypatch):
    entry = entries.Public(
        "expert",
        "net",
        "a net",
        "net.bin",
        downloads=(entries.Download(f"{server.address}/set.bin", "net.bin"),),
    )
    (first,) = fetch.items(entry, tmp_path)
    assert first.sha256 is None
    fetch.bring(first, tmp_path)
    first.target.unlink()
    server.files["/set.bin"] = b"a re-upload"
    (second,) = fetch.items(entry, tmp_path)
    assert second.sha256 == SHA256
    with pytest.raises(CheckpointError, match="known is " + SHA256):
        fetch.bring(second, tmp_path)


def test_missing_file_is_code_8_without_a_second_try(item, server, tmp_path):
    with pytest.raises(ResourceError, match="404"):
        fetch.bring(item("/nothing.bin"), tmp_path)
    assert len(server.requests) == 1


def test_redirect_is_followed(item, server, tmp_path):
    server.faults["/set.bin"] = [f"{server.address}/moved.bin"]
    server.files["/moved.bin"] = BODY[:5000]
    assert fetch.bring(item(), tmp_path) == hashlib.sha256(BODY[:5000]).hexdigest()


def test_redirect_that_gives_up_encryption_is_refused(tmp_path):
    class Answer:
        is_redirect, url, headers = True, "https://host/file", {"Location": "http://host/file"}

    with (tmp_path / "file.part").open("w+b") as stream:
        look = transfer._Answer(stream, tmp_path / "file.part", 0, patience.Pace(), None)
        with pytest.raises(ResourceError, match="without encryption"):
            look(Answer())


def test_web_page_instead_of_the_file_is_refused(item, server, tmp_path):
    server.faults["/set.bin"] = ["html"]
    with pytest.raises(ResourceError, match="web page"):
        fetch.bring(item(), tmp_path)


def test_nobody_listening_is_code_8(tmp_path, item):
    wish = item()
    silent = fetch.Item(wish.entry, "http://127.0.0.1:9/set.bin", wish.target)
    with pytest.raises(ResourceError) as error:
        fetch.bring(silent, tmp_path)
    assert error.value.exit_code == 8


def test_server_that_stays_silent_is_given_up(item, server, tmp_path):
    server.faults["/set.bin"] = ["stall"] * 9
    server.ranges = False
    with pytest.raises(ResourceError):
        fetch.bring(item(), tmp_path)
    # Half of the file came at first, then so many attempts in a row brought nothing further.
    assert sum(command == "GET" for command, _, _ in server.requests) == 1 + transfer.ATTEMPTS


def test_body_longer_than_the_limit_is_stopped(item, server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "MAX_BYTES", 100_000)
    with pytest.raises(ResourceError, match="limit"):
        fetch.bring(item(), tmp_path)
    server.declares = False
    with pytest.raises(ResourceError, match="more bytes"):
        fetch.bring(item(), tmp_path)


def test_cache_without_room_or_rights_is_code_6(item, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: type("U", (), {"free": 10}))
    with pytest.raises(StorageError, match="10 are free"):
        fetch.bring(item(), tmp_path)
    (tmp_path / "occupied").touch()
    with pytest.raises(StorageError), fetch.locked(tmp_path / "occupied"):
        pass


def test_two_fetches_do_not_share_a_cache(tmp_path):
    with fetch.locked(tmp_path), pytest.raises(RunLockedError), fetch.locked(tmp_path):
        pass


# Names, and the command.


@pytest.fixture
def little(server, monkeypatch):
    """A catalogue of one pair whose files lie on the server."""
    where = f"{server.address}/"
    table = {
        "pair": {
            "little": {
                "data": "little", "likelihood": "little-vdm", "quality": "little-edm", "stats": "little",
                "eta_range": [-13.3, 8.764], "eta": 0.4,
            }
        },
        "data": {
            "little": {
                "title": "data", "licence": "none", "at": "data/set.bin",
                "downloads": [{"url": f"{where}set.bin", "size": len(BODY), "sha256": SHA256}],
            },
            "hidden": {
                "title": "data", "licence": "none", "source": "a page", "at": "data/hidden",
                "by_hand": "log in",
            },
        },
        "expert": {
            "little-vdm": {
                "title": "a vdm", "licence": "free", "at": "experts/little-vdm", "needs": ["ckpt-*.flax"],
                "downloads": [
                    {"url": f"{where}vdm/checkpoint", "at": "experts/little-vdm/checkpoint"},
                    {"url": f"{where}vdm/{{checkpoint}}.flax", "at": "experts/little-vdm/{checkpoint}.flax"},
                ],
            },
            "little-edm": {
                "title": "an edm", "licence": "not free", "at": "experts/little-edm.pkl",
                "downloads": [{"url": f"{where}edm.pkl"}],
            },
        },
        "stats": {
            "little": {
                "title": "stats", "at": "stats/little.npz", "downloads": [{"url": f"{where}stats.npz"}]
            },
        },
    }  # fmt: skip
    server.files |= {
        "/vdm/checkpoint": b'model_checkpoint_path: "ckpt-31"\nall_model_checkpoint_paths: "ckpt-31"\n',
        "/vdm/ckpt-31.flax": b"weights",
        "/edm.pkl": b"pickle",
        "/stats.npz": b"stats",
    }
    monkeypatch.setattr(entries, "known", lambda: table)
    monkeypatch.setattr(fetch, "known", lambda: table)
    return server


def run(capsys, *arguments):
    from merged_diffusion.cli import main

    code = main(["fetch", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_pair_brings_data_both_experts_and_statistics(little, tmp_path, capsys):
    code, out, err = run(capsys, "little", "--cache", tmp_path, "--json")
    assert code == 0, err
    files = json.loads(out)["files"]
    assert [file["url"].removeprefix(little.address) for file in files] == [
        *("/set.bin", "/vdm/checkpoint", "/vdm/ckpt-31.flax", "/edm.pkl", "/stats.npz")
    ]
    assert all(file["fetched"] or file["url"].endswith("/checkpoint") for file in files)
    assert (tmp_path / "experts" / "little-vdm" / "ckpt-31.flax").read_bytes() == b"weights"
    # Sizes come before anything large moves.
    gets = [path for command, path, _ in little.requests if command == "GET"]
    heads = [path for command, path, _ in little.requests if command == "HEAD"]
    assert heads == ["/vdm/ckpt-31.flax", "/edm.pkl", "/stats.npz"]
    assert gets[0] == "/vdm/checkpoint"
    assert "256 kB" in err
    assert "not free" in err
    n_requests = len(little.requests)
    code, out, err = run(capsys, "little", "--cache", tmp_path)
    assert (code, len(little.requests)) == (0, n_requests)
    assert "0 files fetched, 5 were there" in out


def test_only_one_part_of_a_pair(little, tmp_path, capsys):
    assert run(capsys, "little", "--only", "data", "--cache", tmp_path)[0] == 0
    assert names(tmp_path) == [".fetch.lock", "hashes.json", "set.bin"]


def test_dry_run_prints_addresses_and_targets_and_touches_nothing(little, tmp_path, capsys):
    code, out, _ = run(capsys, "little", "--cache", tmp_path / "cache", "--dry-run")
    assert code == 0
    for part in ("/set.bin", "/vdm/checkpoint", "/vdm/ckpt-N.flax", "/edm.pkl", SHA256):
        assert part in out
    assert str(tmp_path / "cache" / "experts" / "little-edm.pkl") in out
    assert not little.requests
    assert not (tmp_path / "cache").exists()


def test_what_is_brought_by_hand_says_so(little, tmp_path, capsys):
    code, _, err = run(capsys, "hidden", "--cache", tmp_path)
    assert code == 3
    assert "log in" in err
    assert str(tmp_path / "data" / "hidden") in err


@pytest.mark.parametrize("name", ["nothing", "digits", "hf:x"])
def test_name_without_files_is_a_usage_error(capsys, tmp_path, name):
    code, _, err = run(capsys, name, "--cache", tmp_path)
    assert code == 2
    assert "hf:owner/name@revision" in err


def test_network_failure_and_wrong_hash_are_codes_8_3_and_4(little, tmp_path, capsys):
    little.files["/set.bin"] = b"another set"
    assert run(capsys, "little", "--only", "data", "--cache", tmp_path)[0] == 3
    del little.files["/edm.pkl"]
    assert run(capsys, "little-edm", "--cache", tmp_path)[0] == 8


def test_index_that_names_nothing_is_refused(little, tmp_path, capsys):
    little.files["/vdm/checkpoint"] = b'model_checkpoint_path: "../../etc/passwd"\n'
    code, _, err = run(capsys, "little-vdm", "--cache", tmp_path)
    assert code == 4
    assert "names no ckpt-N" in err


def test_repository_of_the_hub_brings_what_a_loader_reads(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    weights = b"safetensors"
    rows = [
        {"rfilename": "config.json", "size": 2},
        {"rfilename": "../evil.json", "size": 2},
        {"rfilename": "diffusion_pytorch_model.bin", "size": 9},
        {
            "rfilename": "diffusion_pytorch_model.safetensors",
            "size": len(weights),
            "lfs": {"sha256": hashlib.sha256(weights).hexdigest()},
        },
    ]
    server.files |= {
        "/api/models/me/net/revision/v1": json.dumps({"siblings": rows}).encode(),
        "/me/net/resolve/v1/config.json": b"{}",
        "/me/net/resolve/v1/diffusion_pytorch_model.safetensors": weights,
    }
    code, _, err = run(capsys, "hf:me/net@v1", "--cache", tmp_path)
    assert code == 0, err
    folder = tmp_path / "hf" / "me" / "net" / "v1"
    assert names(folder) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert hub_folder("hf:me/net@v1").as_posix() == "hf/me/net/v1"
    rows.pop()
    server.files["/api/models/me/net/revision/v1"] = json.dumps({"siblings": rows}).encode()
    assert run(capsys, "hf:me/net@v1", "--cache", tmp_path / "other")[0] == 4
    assert run(capsys, "hf:me/other@v1", "--cache", tmp_path)[0] == 8


def test_repository_of_the_hub_brings_the_running_mean_in_place_of_the_raw_weights(
    server, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    parts = [
        f"{folder}/{file}"
        for folder in ("unet", "unet_ema", "unet_schema", "unet_ema/deeper")
        for file in ("config.json", "diffusion_pytorch_model.safetensors")
    ]
    parts += ["scheduler/scheduler_config.json"]
    rows = [{"rfilename": part, "size": 2} for part in parts]
    server.files["/api/models/me/net/revision/v1"] = json.dumps({"siblings": rows}).encode()
    server.files |= {f"/me/net/resolve/v1/{part}": b"{}" for part in parts}
    code, _, err = run(capsys, "hf:me/net@v1", "--cache", tmp_path)
    assert code == 0, err
    folder = tmp_path / "hf" / "me" / "net" / "v1"
    assert sorted(path.name for path in folder.iterdir()) == ["scheduler", "unet_ema"]
    assert names(folder / "unet_ema") == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_listing_that_is_none_is_code_8(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    server.files["/api/models/me/net/revision/v1"] = b"[1, 2]"
    with pytest.raises(ResourceError, match="not a list of files"):
        hub.with_files(entries.public("expert", "hf:me/net@v1"))


# The cache, and what the message says of what is not there.


def test_cache_is_the_given_one_then_the_variable_then_the_platforms(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(tmp_path / "named"))
    assert cache_folder(tmp_path / "given") == tmp_path / "given"
    assert cached("data", "x") == tmp_path / "named" / "data" / "x"
    monkeypatch.delenv("MERGED_DIFFUSION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert "merged-diffusion" in cache_folder().parts


@pytest.mark.parametrize(
    "source", ["hf:owner/name", "hf:../name@main", "hf:owner/name@../..", "hf:o/n@a/b", "hf:o/.n@r"]
)
def test_repository_without_owner_name_or_revision_is_refused(source):
    with pytest.raises(UsageError, match="hf:owner/name@revision"):
        hub_folder(source)


def test_broken_hashes_are_a_fault_of_storage(tmp_path):
    (tmp_path / "hashes.json").write_text("[]")
    with pytest.raises(StorageError, match=r"hashes\.json"):
        recorded_sha256(tmp_path / "x", tmp_path)


def test_absent_data_alone_is_code_3(tmp_path):
    from merged_diffusion.catalogue.absent import absent

    error = absent([entries.public("data", "cifar10")], tmp_path)
    assert isinstance(error, DataNotFoundError)
    assert "fetch cifar10 --only data" in str(error)


@pytest.mark.parametrize("fault", ["drip", "slow headers"])
def test_a_server_that_only_drips_is_given_up(server, tmp_path, monkeypatch, fault):
    """Each byte comes within the time-out between packets; a piece does not come within its time."""
    monkeypatch.setattr(patience, "SECONDS", 0.5)
    server.faults["/set.bin"] = [fault]
    with pytest.raises(ResourceError, match="less than 65536 bytes came in"):
        transfer.receive(f"{server.address}/set.bin", tmp_path / "set.bin.part")


def test_a_file_that_would_take_for_ever_is_given_up(server, tmp_path, monkeypatch):
    """Every piece comes in time, all of them do not."""
    monkeypatch.setattr(patience, "GRACE_SECONDS", 0.5)
    server.faults["/set.bin"] = ["drip"]
    with pytest.raises(ResourceError, match="which is less than 32768 a second"):
        transfer.receive(f"{server.address}/set.bin", tmp_path / "set.bin.part")


@pytest.mark.parametrize(
    ("seconds", "mebibytes", "is_too_slow"),
    [(590, 0, False), (601, 0, True), (15_900, 480, False), (16_000, 480, True), (16_000, 482, False)],
)
def test_the_pace_is_a_mean_over_the_whole_file(monkeypatch, seconds, mebibytes, is_too_slow):
    pace = patience.Pace()
    pace.bytes = mebibytes << 20
    began = pace.began
    monkeypatch.setattr(patience.time, "monotonic", lambda: began + seconds)
    found = pace.is_too_slow()
    monkeypatch.undo()
    assert found is is_too_slow


def test_the_pace_goes_on_over_requests_and_counts_bytes(server, tmp_path, monkeypatch):
    paces = []
    request = transfer._request

    def noted(url, stream, part, pace, **options):
        paces.append(pace)
        request(url, stream, part, pace, **options)

    monkeypatch.setattr(transfer, "_request", noted)
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.0)
    server.files["/set.bin"] = BODY
    server.faults["/set.bin"] = ["cut"]
    transfer.receive(f"{server.address}/set.bin", tmp_path / "set.bin.part", is_known=True)
    assert len(paces) == 2
    assert paces[0] is paces[1]
    assert paces[0].bytes == len(BODY)


def test_a_listing_that_drips_is_given_up(server, monkeypatch):
    monkeypatch.setattr(patience, "SECONDS", 0.5)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    path = "/api/models/a/b/revision/main?blobs=true"
    server.files[path.partition("?")[0]] = b" " * 5000
    server.faults[path] = ["drip"]
    with pytest.raises(ResourceError, match="less than"):
        hub.with_files(entries.public("expert", "hf:a/b@main"))


def test_a_server_that_cuts_after_a_few_bytes_is_no_progress(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.0)
    server.files["/set.bin"] = BODY[:4000]  # half of what is left comes each time: twelve pieces of it
    server.faults["/set.bin"] = ["cut"] * 12
    with pytest.raises(ResourceError, match=r"cut off|Connection broken"):
        transfer.receive(f"{server.address}/set.bin", tmp_path / "set.bin.part")
    assert len(server.requests) == transfer.ATTEMPTS


def test_an_answer_that_http_does_not_know_is_no_file(server, tmp_path):
    server.faults["/set.bin"] = [999]
    with pytest.raises(ResourceError, match="answered 999"):
        transfer.receive(f"{server.address}/set.bin", tmp_path / "set.bin.part")


LYING = {
    "deep": b"[" * 100_000,
    "no list": b'{"siblings": {"rfilename": "card.toml"}}',
    "size as text": b'{"siblings": [{"rfilename": "model.safetensors", "size": "big"}]}',
    "negative size": b'{"siblings": [{"rfilename": "model.safetensors", "size": -1}]}',
    "lfs as list": b'{"siblings": [{"rfilename": "model.safetensors", "lfs": [1]}]}',
    "hash as number": b'{"siblings": [{"rfilename": "model.safetensors", "lfs": {"sha256": 1}}]}',
    "name as list": b'{"siblings": [{"rfilename": ["model.safetensors"]}]}',
    "number": b"7",
}


@pytest.mark.parametrize("lie", LYING)
def test_a_listing_of_other_types_is_refused(server, monkeypatch, lie):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    server.files["/api/models/a/b/revision/main"] = LYING[lie]
    with pytest.raises((ResourceError, CheckpointError)):
        hub.with_files(entries.public("expert", "hf:a/b@main"))
