// Room for bytes in number that come in. HTTP/2 lets a client send 64 KiB and then wait to be told that they were
// taken, a round trip through two busy processes for each; grpc-js lets only clients have more.
import { subscribe } from 'node:diagnostics_channel';
import { type ServerHttp2Session, type ServerHttp2Stream, constants } from 'node:http2';

const MiB = 1024 * 1024;
const streamBytes = MiB;
const connectionBytes = 8 * MiB; // Several streams may stand full at a time.

// Connections to servers of this thread on which one of the methods is called let each of their streams be 1 MiB
// ahead of its reader. Paths as HTTP/2 has them: `/package.Service/Method`.
export function widenWindows(paths: readonly string[]): void {
  if (paths.length === 0) return;
  const widened = new WeakSet<ServerHttp2Session>();
  subscribe('http2.server.stream.created', (message) => {
    const { stream, headers } = message as { stream: ServerHttp2Stream; headers: Record<string, unknown> };
    const session = stream.session as ServerHttp2Session | undefined;
    if (!session || widened.has(session) || !paths.includes(String(headers[constants.HTTP2_HEADER_PATH]))) return;
    widened.add(session);
    session.settings({ initialWindowSize: streamBytes });
    session.setLocalWindowSize(connectionBytes);
  });
}
