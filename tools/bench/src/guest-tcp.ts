// The floor under every transfer: bytes over one TCP connection between this process and a few lines of Python in
// the guest, which read or write a MiB at a time and do nothing with it.
import { once } from 'node:events';
import { type Socket, connect } from 'node:net';

import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { eventually } from '@wrenn/kit/testkit/eventually';

import { chunkBytes, chunks } from './bytes.ts';

const port = 5201;
// A connection begins with what is wanted: 0 takes bytes to their end and says how many came; n sends n MiB.
const server = `
import socket
listener = socket.create_server(('0.0.0.0', ${port}))
buffer = bytearray(${chunkBytes})
while True:
    peer, _ = listener.accept()
    wanted = int.from_bytes(peer.recv(4, socket.MSG_WAITALL), 'big')
    if wanted:
        for _ in range(wanted):
            peer.sendall(buffer)
    else:
        total = 0
        while count := peer.recv_into(buffer):
            total += count
        peer.sendall(total.to_bytes(8, 'big'))
    peer.close()
`;

export class GuestTcp {
  readonly #address: string;

  private constructor(address: string) {
    this.#address = address;
  }

  static async start(mesh: TestMesh, guest: Guest): Promise<GuestTcp> {
    const process = { command: 'python3', args: ['-c', server] };
    for await (const { event } of mesh.client.processes.start({ sandboxId: guest.id, process })) {
      if (event?.event.case === 'started') break; // It runs on without us.
    }
    const tcp = new GuestTcp(await guest.address());
    await eventually('Python listens in the guest', async () => (await tcp.#dial()).destroy(), 30_000);
    return tcp;
  }

  async up(byteCount: number): Promise<void> {
    const socket = await this.#ask(0);
    for (const chunk of chunks(byteCount)) if (!socket.write(chunk)) await once(socket, 'drain');
    socket.end();
    const answer: Buffer[] = [];
    for await (const piece of socket as AsyncIterable<Buffer>) answer.push(piece);
    const taken = Number(Buffer.concat(answer).readBigUInt64BE());
    if (taken !== byteCount) throw new Error(`the guest took ${taken} of ${byteCount} bytes`);
  }

  async down(byteCount: number): Promise<void> {
    const socket = await this.#ask(byteCount / chunkBytes);
    let taken = 0;
    for await (const piece of socket as AsyncIterable<Buffer>) taken += piece.length;
    if (taken !== byteCount) throw new Error(`the guest sent ${taken} of ${byteCount} bytes`);
  }

  async #ask(wanted: number): Promise<Socket> {
    const socket = await this.#dial();
    const head = Buffer.alloc(4);
    head.writeUInt32BE(wanted);
    socket.write(head);
    return socket;
  }

  async #dial(): Promise<Socket> {
    const options = { host: this.#address, port, noDelay: true, highWaterMark: 256 * 1024, allowHalfOpen: true };
    const socket = connect(options);
    await once(socket, 'connect');
    return socket;
  }
}
