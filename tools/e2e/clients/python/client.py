"""A client on grpcio with generated code, which must be on PYTHONPATH. ../README.md says what it does."""

import hashlib
import json
import random
import resource
import sys
import time

import grpc
from wrenn.v1 import filesystem_pb2 as fs
from wrenn.v1 import filesystem_pb2_grpc, process_pb2, process_pb2_grpc, sandbox_pb2, sandbox_pb2_grpc

MESSAGE_BYTES = 256 * 1024
DISK_BYTES = 3 * 2**30
gateway, gateway_bulk, file_bytes, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


def pseudo_random(name, byte_count):
    """The same bytes for the same seed, which nothing can compress."""
    source = random.Random(f"{seed} {name}")
    for at in range(0, byte_count, MESSAGE_BYTES):
        yield source.randbytes(min(MESSAGE_BYTES, byte_count - at))


def write_messages(sandbox_id, path, chunks):
    yield fs.FilesystemServiceWriteRequest(start=fs.WriteStart(sandbox_id=sandbox_id, path=path))
    for chunk in chunks:
        yield fs.FilesystemServiceWriteRequest(data=chunk)
    yield fs.FilesystemServiceWriteRequest(finish=fs.WriteFinish())


def code_of(error):
    return error.code().value[0]


def streamed_command(processes, sandbox_id):
    spec = process_pb2.ProcessSpec(command="/bin/sh", args=["-c", "echo one; echo two >&2; exit 4"])
    said = {"kinds": [], "stdout": "", "stderr": "", "exitCode": -1}
    for answer in processes.Start(process_pb2.ProcessServiceStartRequest(sandbox_id=sandbox_id, process=spec)):
        kind = answer.event.WhichOneof("event")
        said["kinds"].append(kind)
        if kind in ("stdout", "stderr"):
            said[kind] += getattr(answer.event, kind).decode()
        if kind == "exited":
            said["exitCode"] = answer.event.exited.exit_code
    return said


def write(files, sandbox_id, path):
    started = time.monotonic()
    digest = hashlib.sha256()

    def hashed():
        for chunk in pseudo_random(path, file_bytes):
            digest.update(chunk)
            yield chunk

    entry = files.Write(write_messages(sandbox_id, path, hashed())).entry
    return {"bytes": entry.size_bytes, "sha256": digest.hexdigest(), "seconds": time.monotonic() - started}


def read(files, sandbox_id, path):
    started = time.monotonic()
    digest, count = hashlib.sha256(), 0
    for part in files.Read(fs.FilesystemServiceReadRequest(sandbox_id=sandbox_id, path=path)):
        if part.WhichOneof("part") == "data":
            digest.update(part.data)
            count += len(part.data)
    return {"bytes": count, "sha256": digest.hexdigest(), "seconds": time.monotonic() - started}


def cancelled_write(files, sandbox_id, path):
    def then_cancel():
        yield from pseudo_random(path, file_bytes // 4)
        call.cancel()

    call = files.Write.future(write_messages(sandbox_id, path, then_cancel()))
    try:
        call.result()
        return 0
    except grpc.FutureCancelledError:
        return code_of(call)


def cancelled_read(files, sandbox_id, path):
    call = files.Read(fs.FilesystemServiceReadRequest(sandbox_id=sandbox_id, path=path))
    count = 0
    try:
        for part in call:
            count += len(part.data)
            if count >= file_bytes // 4:
                call.cancel()
        return 0
    except grpc.RpcError as error:
        return code_of(error)


def shell(processes, sandbox_id, script):
    spec = process_pb2.ProcessSpec(command="/bin/sh", args=["-c", script])
    request = process_pb2.ProcessServiceExecRequest(sandbox_id=sandbox_id, process=spec)
    return processes.Exec(request).stdout.decode().strip()


def what_is_left(kib):
    """Names in the directory, and KiB in use on the disk once they are as few as before, at last after 20 s."""
    return (
        f"for i in $(seq 100); do k=$(df -k / | awk 'END{{print $3}}'); [ $k -le {kib} ] && break; sleep 0.2; done; "
        "ls -A /srv/own; echo $k"
    )


def main():
    with grpc.insecure_channel(gateway) as channel, grpc.insecure_channel(gateway_bulk) as bulk_channel:
        sandboxes = sandbox_pb2_grpc.SandboxServiceStub(channel)
        processes = process_pb2_grpc.ProcessServiceStub(channel)
        files = filesystem_pb2_grpc.FilesystemServiceStub(bulk_channel)
        create = sandbox_pb2.SandboxServiceCreateRequest(template="minimal", disk_bytes=DISK_BYTES)
        sandbox_id = sandboxes.Create(create).sandbox.id
        command = streamed_command(processes, sandbox_id)
        written = write(files, sandbox_id, "/srv/own/file")
        read_back = read(files, sandbox_id, "/srv/own/file")
        used_kib = int(shell(processes, sandbox_id, "sync; df -k / | awk 'END{print $3}'"))
        cancelled_write_code = cancelled_write(files, sandbox_id, "/srv/own/cancelled")
        *names, kib = shell(processes, sandbox_id, what_is_left(used_kib + 1024)).split("\n")
        cancelled_read_code = cancelled_read(files, sandbox_id, "/srv/own/file")
        sandboxes.Destroy(sandbox_pb2.SandboxServiceDestroyRequest(sandbox_id=sandbox_id))
        gone = sandboxes.Get(sandbox_pb2.SandboxServiceGetRequest(sandbox_id=sandbox_id)).sandbox
    outcome = {
        "command": command,
        "written": written,
        "readBack": read_back,
        "cancelledWriteCode": cancelled_write_code,
        "left": {"names": names, "extraKib": int(kib) - used_kib},
        "cancelledReadCode": cancelled_read_code,
        "state": sandbox_pb2.SandboxState.Name(gone.state),
        "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(outcome))


main()
