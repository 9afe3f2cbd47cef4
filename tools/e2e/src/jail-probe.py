"""What a VMM that was taken over could try. Prints, as JSON, how each attempt ended: `done`, or the name of its errno.

Arguments: a JSON object of lists: paths to `read`, `write` and `list`, unix sockets to `connect`, `tcp` addresses, and
pids to `trace`. With `files_only` it makes no attempt that could do harm where it succeeds.
"""

import ctypes
import errno
import json
import os
import socket
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
given = json.loads(sys.argv[1])
outcomes = {}


def attempt(name, action):
    try:
        action()
        outcomes[name] = "done"
    except TimeoutError:
        outcomes[name] = "ETIMEDOUT"
    except OSError as error:
        outcomes[name] = errno.errorcode.get(error.errno, str(error.errno))


def call(function, *arguments):
    if getattr(libc, function)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), function)


def syscall(number, *arguments):
    call("syscall", ctypes.c_long(number), *arguments)


def write(path):
    # Nothing is written: whoever may open it so could.
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def make_in(directory):
    path = f"{directory}/wrenn-probe"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(path)


def connect_to(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect(path)


def trace(pid):
    attach = 16
    call("ptrace", ctypes.c_long(attach), ctypes.c_long(pid), None, None)


for path in given.get("read", []):
    attempt(f"read {path}", lambda: open(path, "rb").close())
for path in given.get("write", []):
    attempt(f"write {path}", lambda: write(path))
for path in given.get("list", []):
    attempt(f"list {path}", lambda: os.listdir(path))
for path in given.get("make_in", []):
    attempt(f"make a file in {path}", lambda: make_in(path))
for path in given.get("connect", []):
    attempt(f"connect to {path}", lambda: connect_to(path))

if not given.get("files_only"):
    for host, port in given.get("tcp", []):
        attempt(f"dial {host}:{port}", lambda: socket.create_connection((host, port), 2).close())
    for pid in given.get("trace", []):
        attempt(f"signal {pid}", lambda: os.kill(pid, 0))
        attempt(f"trace {pid}", lambda: trace(pid))
        attempt(f"read the memory of {pid}", lambda: open(f"/proc/{pid}/mem", "rb").close())
        attempt(f"read the environment of {pid}", lambda: open(f"/proc/{pid}/environ", "rb").read())
        attempt(f"list what {pid} has open", lambda: os.listdir(f"/proc/{pid}/fd"))
        attempt(f"enter the network of {pid}", lambda: os.open(f"/proc/{pid}/ns/net", os.O_RDONLY))
        attempt(f"look into the root of {pid}", lambda: os.listdir(f"/proc/{pid}/root/"))
    attempt("become root", lambda: os.setuid(0))
    attempt("take root's group", lambda: os.setgid(0))
    attempt("take other groups", lambda: os.setgroups([0]))
    attempt("come before others", lambda: os.nice(-5))
    attempt("change its root", lambda: os.chroot("/tmp"))
    attempt("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
    attempt("unmount", lambda: call("umount", b"/proc"))
    attempt("new namespaces", lambda: call("unshare", 0x40020000))
    attempt("make a device", lambda: os.mknod("/tmp/wrenn-probe-device", 0o20600, os.makedev(1, 1)))
    attempt("open a raw socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    attempt("name the host", lambda: call("sethostname", b"probe", 5))
    attempt("set the clock", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
    attempt("restart the machine", lambda: call("reboot", 0))
    attempt("load a module", lambda: syscall(175, b"", 0, b""))
    attempt("reach ports", lambda: call("iopl", 3))
    attempt("swap", lambda: call("swapon", b"/dev/null", 0))
    attempt("give root a directory", lambda: os.chown("/tmp", 0, 0))

json.dump(outcomes, sys.stdout)
