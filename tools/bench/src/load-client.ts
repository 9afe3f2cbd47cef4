// The program behind load.ts: GATEWAY GATEWAY_BULK SANDBOX PATH up|down. It tells on stdout how many bytes it has
// moved, every MiB or more, until it is killed.
import { MeshClient } from '@wrenn/cli/client';
import { GrpcBytes, RemoteFiles } from '@wrenn/cli/files/remote-files';

import { chunks, uncut } from './bytes.ts';

const transferBytes = 2 ** 30;
const [gateway = '', gatewayBulk = '', sandboxId = '', path = '', direction = ''] = process.argv.slice(2);
const client = new MeshClient(gateway, gatewayBulk);
const bytes = new GrpcBytes(new RemoteFiles(client, sandboxId));

let movedBytes = 0;
let toldBytes = 0;
async function* counted(data: Iterable<Uint8Array> | AsyncIterable<Uint8Array>) {
  for await (const piece of data) {
    movedBytes += piece.length;
    if (movedBytes - toldBytes >= 2 ** 20) {
      toldBytes = movedBytes;
      process.stdout.write(`${movedBytes}\n`);
    }
    yield piece;
  }
}

for (;;) {
  if (direction === 'up') await bytes.write(path, 0, counted(chunks(transferBytes)), uncut);
  else for await (const _piece of counted((await bytes.read(path, uncut)).data));
}
