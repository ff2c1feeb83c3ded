"""The warm process: who shares it, whose it is, what its children are like, and when it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perennial.processes import is_alive
from perennial.runner import warm
from perennial.runner.warm_place import PACKAGES, WarmUnavailableError, find_place
from perennial.runner.warm_wire import Call
from tests.perennial.other_account import as_nobody

ROOT = Path(__file__).parents[2]
JOBS = "tests.runner.jobs"
# These calls need no imports, and nothing is imported before a call needs it.
CALL = """
import json, sys
sys.path.insert(0, {root!r})
from perennial.processes import is_alive
from perennial.runner import warm
function, *arguments = json.loads(sys.argv[1])
sys.exit(warm.call(function, *arguments, needs=()))
"""
DIRECTLY = """
import json, sys
sys.path.insert(0, {root!r})
from importlib import import_module
from perennial.tfx_compat import prepare_process
prepare_process()
function, *arguments = json.loads(sys.argv[1])
module, name = function.split(":")
getattr(import_module(module), name)(*arguments)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A user's runtime folder; what was started there ends with the test."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder / "perennial"
    if (folder / "perennial").exists() and (folder / "perennial").stat().st_uid == os.geteuid():
        (folder / "perennial").chmod(0o700)
        for status in warm.statuses():
            os.kill(status.process, signal.SIGKILL)  # at once, whatever it is importing


def call(function: str, *arguments, **options) -> subprocess.Popen:
    """A command that calls a function of the jobs by the warm process."""
    return run_program(CALL, function, *arguments, **options)


def run_program(program: str, function: str, *arguments, **options) -> subprocess.Popen:
    request = json.dumps([f"{JOBS}:{function}", *arguments])
    command = [sys.executable, "-c", program.format(root=str(ROOT)), request]
    return subprocess.Popen(command, **options)


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime and stime


def begin_work(folder: Path, seconds: float, **options) -> tuple[subprocess.Popen, list[int]]:
    """A command at work: itself, and its process, that one's child and the one that watches it."""
    command = call("work", str(folder), seconds, **options)
    wait_for(lambda: (folder / "began").exists() and (folder / "began").read_text().count(" ") == 2)
    return command, list(map(int, (folder / "began").read_text().split()))


def test_child_is_as_if_the_command_had_started_it(tmp_path):
    """The oracle is a process that the command's own shell starts with the same surroundings."""
    assert warm.call(f"{JOBS}:end", 0, needs=()) == 0  # started here, with other surroundings
    (tmp_path / "there").mkdir()
    environment = {
        **os.environ,
        "TZ": "Asia/Tokyo",
        "TMPDIR": str(tmp_path / "there"),
        "FRUIT": "pear",
    }
    prefix = ["sh", "-c", 'umask 027; ulimit -Sn 200; exec taskset -c 0 "$0" "$@"']
    reports = []
    for name, program in (("warm", CALL), ("direct", DIRECTLY)):
        request = json.dumps([f"{JOBS}:report", str(tmp_path / name)])
        command = [*prefix, sys.executable, "-c", program.format(root=str(ROOT)), request]
        with open(os.devnull) as nothing, (tmp_path / f"{name}.out").open("w") as out:
            subprocess.run(
                command,
                env=environment,
                cwd=tmp_path / "there",
                stdin=nothing,
                stdout=out,
                check=True,
            )
        surroundings = json.loads((tmp_path / name).read_text())
        surroundings["argv"] = surroundings["argv"][:1]
        surroundings["open"] = [path.replace(name, "NAME") for path in surroundings["open"]]
        reports.append(surroundings)
    assert reports[0] == reports[1]
    assert reports[0]["environment"]["FRUIT"] == "pear" and reports[0]["umask"] == 0o027
    assert len(warm.statuses()) == 1


def test_codes_and_signals_come_back_and_children_draw_differently(tmp_path):
    with warm.WarmProcess(needs=()) as process:
        files = (0, 1, 2)
        for job, argument, code in (
            ("end", 3, 3),
            ("end_by_signal", signal.SIGKILL, -signal.SIGKILL),
            ("end", 0, 0),
        ):
            assert process.start(Call.here(f"{JOBS}:{job}", [argument], ()), files).wait() == code
        for _ in range(2):
            assert (
                process.start(
                    Call.here(f"{JOBS}:draw", [str(tmp_path / "drawn")], ()), files
                ).wait()
                == 0
            )
        assert (
            process.start(
                Call.here(f"{JOBS}:missing", [], ()), (0, 1, os.open(os.devnull, 1))
            ).wait()
            == 1
        )
        assert len(warm.statuses()) == 1 and warm.statuses()[0].idle_left is None
    assert len(set((tmp_path / "drawn").read_text().split())) == 2


def test_commands_that_start_it_at_once_get_one_and_share_it(tmp_path):
    commands = [call("draw", str(tmp_path / "drawn")) for _ in range(3)]
    assert [command.wait(60) for command in commands] == [0, 0, 0]
    assert len(warm.statuses()) == 1 and len(list(tmp_path.glob("runtime/perennial/*.socket"))) == 1


def test_killed_command_leaves_nothing_running(tmp_path):
    command, processes = begin_work(tmp_path, 60)
    command.kill()
    command.wait()
    wait_for(lambda: not any(map(is_alive, processes)), 10)
    assert not (tmp_path / "ended").exists()


def test_interrupt_goes_to_the_child(tmp_path):
    command, processes = begin_work(tmp_path, 60)
    command.send_signal(signal.SIGINT)
    assert command.wait(30) == 130 and (tmp_path / "interrupted").exists()
    assert not any(map(is_alive, processes[:2]))


def test_kill_of_the_warm_process_stops_neither_the_call_nor_the_next(tmp_path):
    command, _ = begin_work(tmp_path, 2.0)
    (before,) = warm.statuses()
    os.kill(before.process, signal.SIGKILL)
    assert command.wait(30) == 0 and (tmp_path / "ended").exists()
    # Its socket is stale now.
    assert warm.call(f"{JOBS}:end", 5, needs=()) == 5
    assert [status.process != before.process for status in warm.statuses()] == [True]


def test_kill_of_what_watches_a_call_is_an_error(tmp_path):
    with warm.WarmProcess(needs=()) as process:
        running = process.start(Call.here(f"{JOBS}:work", [str(tmp_path), 60], ()), (0, 1, 2))
        wait_for(
            lambda: (
                (tmp_path / "began").exists() and (tmp_path / "began").read_text().count(" ") == 2
            )
        )
        child, _, watching = map(int, (tmp_path / "began").read_text().split())
        os.kill(watching, signal.SIGKILL)
        with pytest.raises(warm.CallLostError, match="was killed"):
            running.wait()
        wait_for(lambda: not is_alive(child), 10)


def test_it_ends_when_idle_and_with_its_socket(place):
    with warm.WarmProcess(minutes=0.005, needs=()):
        (status,) = warm.statuses()
        time.sleep(0.5)
        assert is_alive(status.process)  # held
    wait_for(lambda: not is_alive(status.process), 60)
    assert not list(place.glob("*.socket")) and not list(place.glob("*.log"))


def test_older_code_ends_when_a_newer_starts(place, tmp_path):
    """The same product in another state of its code, at the same place."""
    with warm.WarmProcess(needs=()):
        (old,) = warm.statuses()
        socket_path = next(place.glob("*.socket"))
        surroundings, code = socket_path.stem.split("-")
        socket_path.rename(place / f"{surroundings}-{code[::-1]}.socket")
        assert warm.call(f"{JOBS}:end", 0, needs=()) == 0
        assert is_alive(old.process)  # a command still holds it
        used = processor_seconds(old.process)
        time.sleep(0.5)
        assert (
            processor_seconds(old.process) - used < 0.1
        )  # it waits, and does not look again and again
    wait_for(lambda: not is_alive(old.process), 60)
    assert len(warm.statuses()) == 1


def test_stop_and_status_are_commands(place):
    program = Path(sys.executable).with_name("perennial")

    def ask(name: str) -> str:
        return subprocess.run(
            [program, "warm", name], capture_output=True, text=True, check=True
        ).stdout

    assert "no warm process" in ask("status")
    warm.call(f"{JOBS}:end", 0, needs=())
    (status,) = warm.statuses()
    assert f"process {status.process} since" in ask("status") and status.key in ask("status")
    assert ask("stop") == f"ended process {status.process}\n" and not is_alive(status.process)


def test_key_follows_code_and_variables_that_are_read_early(tmp_path, monkeypatch):
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )

    def key(**variables: str) -> str:
        program = (
            "import sys; sys.path.insert(0, sys.argv[1]); from perennial.runner.warm_place "
            "import find_place; "
        )
        command = [sys.executable, "-P", "-c", program + "print(find_place().key)", tmp_path]
        done = subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, check=True
        )
        return done.stdout

    first = key()
    assert key(FRUIT="pear", TF_CONFIG="{}", COLUMNS="80") == first
    assert key(CUDA_VISIBLE_DEVICES="1") != first
    with (tmp_path / "components" / "push_model" / "step.py").open("a") as source:
        source.write("# edited\n")
    assert key() != first


@pytest.mark.parametrize("spoil", ["open to others", "another user's", "a link"])
def test_folder_that_is_not_only_the_users_is_not_used(place, spoil):
    place.mkdir(mode=0o700)
    if spoil == "open to others":
        place.chmod(0o755)
    elif spoil == "a link":
        place.rename(place.with_name("elsewhere"))
        place.symlink_to(place.with_name("elsewhere"))
    elif os.geteuid() != 0:
        pytest.skip("giving a folder away needs root")
    else:
        os.chown(place, 65534, 65534)
    with pytest.raises(WarmUnavailableError, match="nobody else may enter"):
        find_place()
    if spoil == "a link":
        place.unlink()


def test_other_users_are_not_served(place, tmp_path):
    warm.call(f"{JOBS}:end", 0, needs=())
    path = next(place.glob("*.socket"))
    assert path.stat().st_mode & 0o777 == 0o600 and place.stat().st_mode & 0o777 == 0o700
    if os.geteuid() != 0:
        pytest.skip("another account needs root")
    # Even where somebody opened folder and socket to all.
    path.chmod(0o666)
    answered = as_nobody(
        place,
        f"""
import socket
from perennial.runner.warm_wire import receive, send
connection = socket.socket(socket.AF_UNIX)
connection.connect(f"/proc/self/fd/{{os.open(folder, os.O_PATH)}}/{path.name}")
try:
    send(connection, {{"do": "status"}})
    print("answer:", receive(connection)[0])
except OSError:
    print("answer: None")
""",
    )
    assert answered.stdout.strip() == "answer: None", answered.stderr


def test_nonsense_on_the_socket_is_survived(place):
    warm.call(f"{JOBS}:end", 0, needs=())
    for nonsense in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0\0\0\0\2{}", b"\0\0\0\0\0\0\0\3abc"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(
                f"/proc/self/fd/{os.open(place, os.O_PATH)}/{next(place.glob('*.socket')).name}"
            )
            connection.sendall(nonsense)
    assert warm.call(f"{JOBS}:end", 4, needs=()) == 4 and len(warm.statuses()) == 1


def test_own_process_needs_no_folder_and_ends_with_its_command(tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from perennial.runner.warm import OwnWarmProcess
from perennial.runner.warm_wire import Call
with OwnWarmProcess(Path("own.log")) as process:
    code = process.start(Call.here("{JOBS}:work", [{str(tmp_path)!r}, float(sys.argv[1])], ()), (0, 1, 2)).wait()
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", program, "0"], cwd=tmp_path, check=False)
    assert done.returncode == 0 and (tmp_path / "ended").exists()
    assert not list(tmp_path.glob("runtime/*"))
    for name in ("began", "ended"):
        (tmp_path / name).unlink()
    command = subprocess.Popen([sys.executable, "-c", program, "60"], cwd=tmp_path)
    wait_for(
        lambda: (tmp_path / "began").exists() and (tmp_path / "began").read_text().count(" ") == 2
    )
    processes = list(map(int, (tmp_path / "began").read_text().split()))
    command.kill()
    command.wait()
    wait_for(lambda: not any(map(is_alive, processes)), 10)
    assert not (tmp_path / "ended").exists()
