"""Stands in for a VMM: joins the TAP device of a slot to the `eth0` of a guest's namespace, frame by frame.

usage: tap-guest.py SLOT_NAMESPACE UID GUEST_NAMESPACE

Opens the slot's TAP as the VMM would: by name, in the slot's namespace, as its unprivileged user.
"""

import ctypes
import fcntl
import os
import select
import struct
import sys

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace):
    with open(f"/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


def open_tap(name):
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


slot, uid, guest = sys.argv[1], int(sys.argv[2]), sys.argv[3]
enter(guest)
guest_tap = open_tap("eth0")
enter(slot)
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
slot_tap = open_tap("tap0")
print("joined", flush=True)
other = {guest_tap: slot_tap, slot_tap: guest_tap}
while True:
    for source in select.select([guest_tap, slot_tap], [], [])[0]:
        try:
            os.write(other[source], os.read(source, 65536))
        except (BlockingIOError, OSError):
            pass  # A full queue or a link that is down loses frames, as a cable would.
