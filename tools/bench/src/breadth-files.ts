// How fast files come in and out, each way that there is, against what the guest's network carries at all. The
// ways take turns, so that a machine that is busy for a while is busy for all.
import { GrpcBytes, RemoteFiles } from '@wrenn/cli/files/remote-files';
import { signUrl } from '@wrenn/cli/files/signed-bytes';
import { UrlOperation } from '@wrenn/proto/wrenn/v1/filesystem';

import { asStream, chunkBytes, chunks, drain, uncut } from './bytes.ts';
import { GuestTcp } from './guest-tcp.ts';
import { httpDown, httpUp } from './http-bytes.ts';
import { type Measurement, type Row, median, row } from './measurement.ts';

const byteCount = 128 * chunkBytes; // More than a guest of 512 MiB lets be written before it writes to its disk.
const rounds = 3;
const path = '/home/user/moved';
const ways = ['raw', 'agent', 'url', 'grpc'] as const;
type Way = (typeof ways)[number];
type Direction = 'up' | 'down';
type Move = Record<Direction, () => Promise<void>>;

export const breadthFiles: Measurement = {
  ids: (['up', 'down'] as const).flatMap((direction) => [
    ...ways.map((way) => rateId(way, direction)),
    ...ways.slice(1).map((way) => shareId(way, direction)),
  ]),
  async run(mesh, tell) {
    const guest = await mesh.create('debian');
    const files = new RemoteFiles(mesh.client, guest.id);
    const tcp = await GuestTcp.start(mesh, guest);
    const urls = {
      up: (await signUrl(files, path, UrlOperation.WRITE)).url,
      down: (await signUrl(files, path, UrlOperation.READ)).url,
    };
    // The edge passes the rest of the path on as it is.
    const agentUrl = `http://${await guest.address()}:49983/files`;
    const straight = (url: string) => url.replace(/^.*\/files/, agentUrl);
    const moves: Record<Way, Move> = {
      raw: { up: () => tcp.up(byteCount), down: () => tcp.down(byteCount) },
      agent: byUrl(straight(urls.up), straight(urls.down)),
      url: byUrl(urls.up, urls.down),
      grpc: byGrpc(new GrpcBytes(files)),
    };
    const rates = new Map<string, number[]>();
    for (let round = 0; round <= rounds; round++) {
      for (const way of ways) {
        for (const direction of ['up', 'down'] as const) {
          await guest.sh('sync'); // What the one before has left to write is not the next one's burden.
          const startedAtMs = performance.now();
          await moves[way][direction]();
          const rate = byteCount / 1e3 / (performance.now() - startedAtMs);
          tell(`round ${round} of ${rounds}: ${way} ${direction} ${rate.toFixed(0)} MB/s`);
          const id = rateId(way, direction);
          // The first round fills the guest's disk file and the code caches.
          if (round > 0) rates.set(id, [...(rates.get(id) ?? []), rate]);
        }
      }
    }
    await guest.destroy();
    return (['up', 'down'] as const).flatMap((direction) => rowsOf(direction, rates));
  },
};

function rowsOf(direction: Direction, rates: ReadonlyMap<string, readonly number[]>): Row[] {
  const rateOf = (way: Way) => median(rates.get(rateId(way, direction)) ?? []);
  const raw = rateOf('raw');
  return [
    ...ways.map((way) => row(rateId(way, direction), rateOf(way), 'MB/s')),
    ...ways.slice(1).map((way) => row(shareId(way, direction), rateOf(way) / raw, 'x raw')),
  ];
}

function byUrl(up: string, down: string): Move {
  return { up: () => httpUp(up, byteCount), down: () => httpDown(down, byteCount) };
}

function byGrpc(bytes: GrpcBytes): Move {
  return {
    up: () => bytes.write(path, 0, asStream(chunks(byteCount)), uncut),
    async down() {
      const count = await drain((await bytes.read(path, uncut)).data);
      if (count !== byteCount) throw new Error(`${count} of ${byteCount} bytes came`);
    },
  };
}

function rateId(way: Way, direction: Direction): string {
  return `breadth.file_${direction}_${way}`;
}

function shareId(way: Way, direction: Direction): string {
  return `breadth.file_${direction}_${way}_share`;
}
