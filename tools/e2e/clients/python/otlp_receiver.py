"""An OTLP receiver that shares no code with Wrenn: OpenTelemetry's own generated messages behind Python's HTTP server.

Prints `{"port": N}`, then each span that comes as one line of JSON. A line `hold` on its stdin has it answer nobody,
and print `{"held": N}` with the number of exports that wait, until a line `go`.
"""

import gzip
import http.server
import json
import sys
import threading

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

printing = threading.Lock()
going = threading.Event()
going.set()
held = 0


def say(value):
    with printing:
        print(json.dumps(value), flush=True)


def plain(attributes):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in attributes}


def spans_of(request):
    for resource_spans in request.resource_spans:
        resource = plain(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield {
                    "traceId": span.trace_id.hex(),
                    "spanId": span.span_id.hex(),
                    "parentId": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": trace_pb2.Span.SpanKind.Name(span.kind),
                    "service": resource.get("service.name", ""),
                    "startNs": str(span.start_time_unix_nano),
                    "endNs": str(span.end_time_unix_nano),
                    "isError": span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                    "statusMessage": span.status.message,
                    "attributes": plain(span.attributes),
                    "events": [{"name": event.name, "attributes": plain(event.attributes)} for event in span.events],
                    "links": [{"traceId": link.trace_id.hex(), "spanId": link.span_id.hex()} for link in span.links],
                    "resource": resource,
                }


def await_going():
    global held
    if not going.is_set():
        with printing:
            held += 1
        say({"held": held})
    going.wait()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = b"".join(self.pieces())
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        await_going()
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for span in spans_of(request):
            say(span)
        answer = trace_service_pb2.ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def pieces(self):
        if self.headers.get("transfer-encoding") != "chunked":
            yield self.rfile.read(int(self.headers["content-length"]))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()  # Behind the last, where trailers would be.

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
server.daemon_threads = True
say({"port": server.server_address[1]})
threading.Thread(target=server.serve_forever, daemon=True).start()
for line in sys.stdin:  # Until whoever started it is gone.
    going.clear() if line.strip() == "hold" else going.set()
