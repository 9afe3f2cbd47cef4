// A web server in a guest, in a few lines of Python: 64 KiB for each GET, an echo for each WebSocket.
import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { eventually } from '@wrenn/kit/testkit/eventually';

export const bodyBytes = 65_536;
export const webPort = 8000;
const server = `
import asyncio, base64, hashlib, re
BODY = b'HTTP/1.1 200 OK\\r\\nContent-Length: ${bodyBytes}\\r\\n\\r\\n' + bytes(${bodyBytes})
async def echo(reader, writer, key):
    accept = base64.b64encode(hashlib.sha1(key + b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest())
    writer.write(b'HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + accept + b'\\r\\n\\r\\n')
    while True:
        first, length = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        text = bytes(b ^ mask[i & 3] for i, b in enumerate(await reader.readexactly(length & 127)))
        if first & 15 != 1:
            return
        writer.write(bytes([129, len(text)]) + text)
        await writer.drain()
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b'\\r\\n\\r\\n')
            key = re.search(rb'sec-websocket-key: *(\\S+)', head, re.I)
            if key:
                return await echo(reader, writer, key[1])
            writer.write(BODY)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
async def main():
    async with await asyncio.start_server(serve, '0.0.0.0', ${webPort}) as server:
        await server.serve_forever()
asyncio.run(main())
`;

// Returns the address of it at the edge once it answers there.
export async function startGuestWeb(mesh: TestMesh, guest: Guest): Promise<string> {
  const process = { command: 'python3', args: ['-c', server] };
  for await (const { event } of mesh.client.processes.start({ sandboxId: guest.id, process })) {
    if (event?.event.case === 'started') break; // It runs on without us.
  }
  const url = `http://${mesh.mesh.addresses.edgeProxy}/proxy/${guest.id}/${webPort}/`;
  await eventually(
    'the guest serves',
    async () => (await (await fetch(url)).arrayBuffer()).byteLength === bodyBytes,
    60_000,
  );
  return url;
}
