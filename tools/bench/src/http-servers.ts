// nginx and haproxy with one worker each, and the edge alone, in front of one fast server on this machine.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { newSandboxId } from '@wrenn/kit/ids';

const startLimitMs = 20_000;
export const mibPath = '/mib';

export interface HttpServer {
  readonly name: string;
  readonly url: string;
  readonly host: string; // For the Host field.
  readonly process: ChildProcess;
}

// Holds what it started until it is disposed of.
export class HttpServers implements AsyncDisposable {
  readonly #dir: string;
  readonly #started: ChildProcess[] = [];

  constructor(dir: string) {
    this.#dir = dir;
  }

  async startBackend(): Promise<number> {
    await writeFile(join(this.#dir, 'mib'), Buffer.alloc(1 << 20, 'wrenn '));
    const port = await freePort();
    const locations = `location = ${mibPath} { root ${this.#dir}; } location / { return 200 "hello"; }`;
    await this.#startNginx('backend', port, `server { listen 127.0.0.1:${port}; ${locations} }`);
    return port;
  }

  async startNginx(backend: number): Promise<HttpServer> {
    const port = await freePort();
    const upstream = `upstream backend { server 127.0.0.1:${backend}; keepalive 64; keepalive_requests 10000000; }`;
    const pass = 'proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";';
    const config = `${upstream} server { listen 127.0.0.1:${port}; location / { ${pass} } }`;
    const child = await this.#startNginx('nginx', port, config);
    return { name: 'nginx', url: `http://127.0.0.1:${port}`, host: 'localhost', process: child };
  }

  async startHaproxy(backend: number): Promise<HttpServer> {
    const port = await freePort();
    const config = [
      'global',
      '  nbthread 1',
      'defaults',
      '  mode http',
      '  timeout connect 5s',
      '  timeout client 60s',
      '  timeout server 60s',
      '  http-reuse always',
      'frontend front',
      `  bind 127.0.0.1:${port}`,
      '  default_backend back',
      'backend back',
      `  server backend 127.0.0.1:${backend}`,
    ];
    const file = join(this.#dir, 'haproxy.cfg');
    await writeFile(file, `${config.join('\n')}\n`);
    const child = await this.#start('haproxy', ['-db', '-f', file], port);
    return { name: 'haproxy', url: `http://127.0.0.1:${port}`, host: 'localhost', process: child };
  }

  async startEdge(backend: number): Promise<HttpServer> {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'edge-alone.ts')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#started.push(child);
    const [port] = (await once(child.stdout!, 'data')) as [Buffer];
    const url = `http://127.0.0.1:${Number(port.toString())}`;
    return { name: 'wrenn', url, host: `${backend}-${newSandboxId()}.localhost`, process: child };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#started) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
  }

  async #startNginx(name: string, port: number, servers: string): Promise<ChildProcess> {
    const dir = join(this.#dir, name);
    await mkdir(dir);
    const own = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${dir}/${kind};`);
    // One process, which is the worker itself.
    const config = `
      daemon off; master_process off; pid ${dir}/pid; error_log stderr crit;
      events { worker_connections 1024; }
      http { access_log off; sendfile on; tcp_nodelay on; keepalive_requests 10000000; ${own.join(' ')} ${servers} }`;
    await writeFile(join(dir, 'nginx.conf'), config);
    return this.#start('/usr/sbin/nginx', ['-p', dir, '-e', 'stderr', '-c', join(dir, 'nginx.conf')], port);
  }

  async #start(program: string, args: string[], port: number): Promise<ChildProcess> {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    try {
      await once(child, 'spawn');
    } catch (cause) {
      throw new Error(`${program} cannot be started; \`make bench\` installs it`, { cause });
    }
    this.#started.push(child);
    const untilMs = performance.now() + startLimitMs;
    while (!(await isServed(port))) {
      if (child.exitCode !== null || performance.now() > untilMs) throw new Error(`${program} did not start`);
      await sleep(20);
    }
    return child;
  }
}

// Processor seconds that a process has used, all its threads together.
export async function cpuSeconds({ pid }: ChildProcess): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return (Number(user) + Number(system)) / ticksPerSecond;
}

const ticksPerSecond = 100; // USER_HZ, the same on every Linux that Node runs on.

function isServed(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
