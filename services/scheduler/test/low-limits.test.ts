// The service with hardly any descriptors: what it cannot do it refuses, and it goes on once it can again.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { type Socket, connect } from 'node:net';
import { join } from 'node:path';

import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { Lanes } from '@wrenn/kit/lanes';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { Health, HealthCheckResponse_ServingStatus as Serving } from '@wrenn/proto/grpc/health/v1/health';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { type DatabaseServer, databaseServers } from './support/database-servers.ts';

let database: DatabaseServer;
beforeAll(async () => {
  database = (await databaseServers[0]?.startServer()) as DatabaseServer;
});
afterAll(() => database.close());

const typed = new Set(['SERVICE_UNAVAILABLE', 'DATABASE_UNAVAILABLE', 'DEADLINE_EXCEEDED']);

test.each([36, 48])(
  'refuses with a reason and keeps running with %i descriptors and 200 connections',
  async (limit) => {
    await using dir = await tempDir();
    await writeFile(join(dir.path, 'database-url'), await database.newDatabase(), { mode: 0o600 });
    const path = join(dir.path, 'scheduler.sock');
    const address = `unix:${path}`;
    const main = join(import.meta.dirname, '../src/main.ts');
    const child = spawn('prlimit', [`--nofile=${limit}:${limit}`, process.execPath, main], {
      env: {
        PATH: process.env['PATH'] ?? '',
        WRENN_LISTEN: address,
        WRENN_DATABASE_URL_FILE: join(dir.path, 'database-url'),
        WRENN_LOG_LEVEL: 'error',
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let complaints = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text));
    const lanes = new Lanes(address, 'scheduler');
    const sockets: Socket[] = [];
    try {
      const health = lanes.client('control', Health);
      const isServing = async () => (await health.check({}, inMs(2000))).status === Serving.SERVING;
      await eventually('it serves', isServing);
      const templates = lanes.client('control', SchedulerService);
      for (let i = 0; i < 200; i++) {
        const socket = connect(path);
        socket.on('error', () => socket.destroy());
        sockets.push(socket);
      }
      await Promise.all(sockets.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])));
      // Enough at once to want more connections to the database than there are descriptors for.
      const outcomes = await Promise.all(
        Array.from({ length: 60 }, () =>
          templates.listTemplates({}, inMs(3000)).then(
            () => 'answered',
            (error: unknown) => (error instanceof WrennError ? error.reason : String(error)),
          ),
        ),
      );
      for (const outcome of outcomes) expect(outcome === 'answered' || typed.has(outcome), outcome).toBe(true);
      const newcomer = new Lanes(address, 'scheduler', undefined, 500);
      const refusal = await newcomer
        .client('control', SchedulerService)
        .listTemplates({}, inMs(3000))
        .then(
          () => 'answered',
          (error: unknown) => (error instanceof WrennError ? error.reason : String(error)),
        );
      expect(refusal === 'answered' || typed.has(refusal), refusal).toBe(true);
      newcomer.close();
      for (const socket of sockets) socket.destroy();
      await eventually('it answers everybody again', async () => {
        const fresh = new Lanes(address, 'scheduler');
        try {
          const calls = Array.from({ length: 20 }, () =>
            fresh.client('control', SchedulerService).listTemplates({}, inMs(2000)),
          );
          return (await Promise.all(calls)).length === 20;
        } finally {
          fresh.close();
        }
      });
      expect(child.exitCode, complaints).toBeNull();
      expect(child.signalCode).toBeNull();
    } finally {
      for (const socket of sockets) socket.destroy();
      lanes.close();
      child.kill('SIGTERM');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
    expect(child.exitCode).toBe(0);
  },
);
