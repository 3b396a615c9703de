"""Files are replaced whole or not at all; a lock keeps other processes out until it ends."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest

from qdm_lib.files import locked, replacing


def test_replacing_shows_nothing_before_the_end(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old" and beside.suffix == ".tmp" and beside.parent == tmp_path
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file(error, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as beside:
        beside.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_keeps_the_old_file_and_names_it(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match=r"Cannot write .*a\.bin: File too large. What was there before is kept\."):
            with replacing(path) as beside:
                beside.write_bytes(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]


def test_a_file_within_a_file_is_named_once(tmp_path):
    with pytest.raises(OSError) as caught, replacing(tmp_path / "outer"):
        with replacing(tmp_path / "no folder" / "inner") as beside:
            beside.write_text("")
    assert str(caught.value).count("Cannot write") == 1 and "inner" in str(caught.value)


def test_another_files_error_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "a.json") as beside:
        beside.write_bytes((tmp_path / "source").read_bytes())
    assert caught.value.filename == str(tmp_path / "source") and not os.listdir(tmp_path)


def test_a_drive_that_cannot_sync_folders_is_no_error(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(tmp_path / "a") as beside:
        beside.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


def test_a_lock_keeps_another_process_out_and_ends_with_it(tmp_path):
    path = tmp_path / "lock"
    code = "import sys; from qdm_lib.files import locked\n"
    code += "with locked(sys.argv[1]) as mine: print(mine, flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline().strip() == b"True"
        with locked(path) as mine:
            assert not mine
    finally:
        other.kill()  # nobody says goodbye, and the lock is free all the same
        other.communicate()
    with locked(path, wait=True) as mine:
        assert mine


def test_a_process_that_holds_a_lock_does_not_get_it_twice(tmp_path):
    with locked(tmp_path / "lock") as first, locked(tmp_path / "lock") as second:
        assert first and not second
    with locked(tmp_path / "lock") as again:
        assert again


def test_the_lock_of_one_that_raised_is_free(tmp_path):
    with pytest.raises(ValueError), locked(tmp_path / "lock"):
        raise ValueError
    with locked(tmp_path / "lock") as mine:
        assert mine


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
@pytest.mark.parametrize("wait", [False, True])
def test_a_drive_without_locks_gives_true_and_leaves_the_file_empty(tmp_path, monkeypatch, number, wait):
    def flock(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path / "lock", wait) as mine:
        assert mine and (tmp_path / "lock").read_bytes() == b""


def test_a_lock_in_a_folder_that_is_none_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("nowhere", "file"):
        with pytest.raises(OSError, match=folder), locked(tmp_path / folder / "lock"):
            pass
