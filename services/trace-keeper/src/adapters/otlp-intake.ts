// Takes spans by OTLP over HTTP, protobuf only. A sender that is wrong is told so; whatever is sent, it costs no more
// than its own answer, and all that is on its way together has a bound.
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';

import { closeHttp, listenAt } from '@wrenn/kit/listen';
import type { Log } from '@wrenn/kit/log';

type Take = (bytes: Uint8Array) => void;

const maxBodyBytes = 4 * 1024 * 1024;
const maxUnderWayBytes = 32 * 1024 * 1024;
const maxConnections = 512;
const bodyLimitMs = 30_000;
const contentType = 'application/x-protobuf';
const unzip = promisify(gunzip);

class Refused extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class OtlpIntake {
  readonly #server: Server;
  readonly #take: Take;
  readonly #log: Log;
  #underWayBytes = 0;
  #refusedCount = 0;

  constructor(take: Take, log: Log) {
    this.#take = take;
    this.#log = log;
    this.#server = createServer({ requestTimeout: bodyLimitMs }, (request, response) => {
      void this.#answer(request, response); // Settles every outcome itself.
    });
    this.#server.maxConnections = maxConnections;
  }

  get refusedCount(): number {
    return this.#refusedCount;
  }

  // Binds `host:port` and returns the port.
  async listen(address: string): Promise<number> {
    const port = await listenAt(this.#server, address);
    this.#log.info({ address, port }, 'taking spans');
    return port;
  }

  close(): Promise<void> {
    return closeHttp(this.#server);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      requireExport(request);
      this.#take(await this.#bodyOf(request));
      response.writeHead(200, { 'content-type': contentType }).end();
    } catch (error) {
      this.#refusedCount += 1;
      const status = error instanceof Refused ? error.status : 400;
      this.#log.debug({ err: error, status }, 'export refused');
      response.writeHead(status, { connection: 'close' }).end();
    }
  }

  async #bodyOf(request: IncomingMessage): Promise<Uint8Array> {
    const pieces: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const piece of request as AsyncIterable<Buffer>) {
        bytes += piece.length;
        this.#underWayBytes += piece.length;
        if (bytes > maxBodyBytes) throw new Refused(413, `more than ${maxBodyBytes} bytes`);
        if (this.#underWayBytes > maxUnderWayBytes) throw new Refused(503, 'too much at once');
        pieces.push(piece);
      }
      const body = Buffer.concat(pieces);
      const isZipped = request.headers['content-encoding'] === 'gzip';
      return isZipped ? await unzip(body, { maxOutputLength: maxBodyBytes }) : body;
    } finally {
      this.#underWayBytes -= bytes;
    }
  }
}

function requireExport({ method, url, headers }: IncomingMessage): void {
  if (url !== '/v1/traces') throw new Refused(404, 'only /v1/traces is taken');
  if (method !== 'POST') throw new Refused(405, 'only POST is taken');
  if (headers['content-type'] !== contentType) throw new Refused(415, `only ${contentType} is taken`);
}
