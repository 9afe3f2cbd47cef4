// As little of a web server as the load needs, and as fast as Node is: 64 KiB for a GET, an echo for a WebSocket.
import { createHash } from 'node:crypto';
import type { Server, Socket } from 'node:net';

import { bodyBytes } from './guest-web.ts';

const answer = Buffer.concat([
  Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${bodyBytes}\r\n\r\n`),
  Buffer.alloc(bodyBytes),
]);
const guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

export function serveFast(server: Server): Server {
  return server.on('connection', (socket: Socket) => {
    let isWebSocket = false;
    let rest: Buffer = Buffer.alloc(0);
    socket.on('error', () => socket.destroy());
    socket.on('data', (bytes: Buffer) => {
      rest = Buffer.concat([rest, bytes]);
      if (isWebSocket) {
        rest = echoed(socket, rest);
        return;
      }
      for (let end = rest.indexOf('\r\n\r\n'); end >= 0 && !isWebSocket; end = rest.indexOf('\r\n\r\n')) {
        const key = /sec-websocket-key: *(\S+)/i.exec(rest.toString('latin1', 0, end))?.[1];
        rest = rest.subarray(end + 4);
        isWebSocket = key !== undefined;
        socket.write(key === undefined ? answer : accepting(key));
      }
    });
  });
}

function accepting(key: string): string {
  const accept = createHash('sha1').update(`${key}${guid}`).digest('base64');
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`;
}

// Short masked frames of text, whole ones; returns what is left.
function echoed(socket: Socket, bytes: Buffer): Buffer {
  let left = bytes;
  for (;;) {
    const length = (left[1] ?? 0) & 127;
    if (left.length < 6 + length) return left;
    const frame = Buffer.alloc(2 + length);
    frame[0] = 129;
    frame[1] = length;
    for (let at = 0; at < length; at++) frame[2 + at] = (left[6 + at] ?? 0) ^ (left[2 + (at & 3)] ?? 0);
    socket.write(frame);
    left = left.subarray(6 + length);
  }
}
