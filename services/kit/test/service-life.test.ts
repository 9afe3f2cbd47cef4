import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { expect, test } from 'vitest';

import { inMs } from '../src/deadlines.ts';
import { Lanes } from '../src/lanes.ts';
import { eventually } from '../src/testkit/eventually.ts';
import { tempDir } from '../src/testkit/temp-dir.ts';

interface Life extends AsyncDisposable {
  readonly process: ChildProcess;
  readonly exit: Promise<number | null>;
  said(text: string): Promise<true>;
  output(): string;
}

function start(env: Record<string, string>): Life {
  const child = spawn(process.execPath, [fileURLToPath(new URL('fixture-service.ts', import.meta.url))], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const exit = new Promise<number | null>((resolve) => child.once('close', resolve));
  return {
    process: child,
    exit,
    output: () => output,
    said: (text) => eventually(`the service says ${text}`, () => output.includes(`"msg":"${text}"`) || undefined),
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exit;
    },
  };
}

test.each(['SIGTERM', 'SIGINT'] as const)('%s lets a running call finish and ends with exit code 0', async (signal) => {
  await using dir = await tempDir();
  const listen = `unix:${dir.path}/s`;
  await using service = start({ WRENN_LISTEN: listen, WRENN_WORK_MS: '600' });
  await service.said('serving');
  const lanes = new Lanes(listen, 'fixture');
  const call = lanes.client('control', LogService).readConsole({}, inMs(10_000));
  await service.said('working');
  service.process.kill(signal);
  await service.said('stopping');
  service.process.kill(signal); // Impatience changes nothing.
  expect(Buffer.from((await call).console).toString()).toBe('done');
  expect(await service.exit).toBe(0);
  expect(existsSync(`${dir.path}/s`)).toBe(false);
  lanes.close();
});

test('a call that outlives the drain does not hold the service up', async () => {
  await using dir = await tempDir();
  const listen = `unix:${dir.path}/s`;
  await using service = start({ WRENN_LISTEN: listen, WRENN_WORK_MS: '60000' });
  await service.said('serving');
  const lanes = new Lanes(listen, 'fixture');
  const call = lanes.client('control', LogService).readConsole({}, inMs(30_000));
  await Promise.all([
    expect(call).rejects.toMatchObject({ reason: expect.stringMatching(/SERVICE_UNAVAILABLE|CANCELLED/) }),
    service.said('working').then(() => service.process.kill('SIGTERM')),
  ]);
  expect(await service.exit).toBe(0);
  lanes.close();
});

test('a bad configuration is told whole on stderr and ends with exit code 78', async () => {
  await using service = start({ WRENN_WORK_MS: 'long', WRENN_TYPO: '1' });
  expect(await service.exit).toBe(78);
  for (const text of ['WRENN_LISTEN: must be set', 'WRENN_WORK_MS: must be', 'WRENN_TYPO: unknown']) {
    expect(service.output()).toContain(text);
  }
});

test('a service that cannot start says why and ends with exit code 1', async () => {
  await using service = start({ WRENN_LISTEN: 'unix:/dev/null/dir/s', WRENN_WORK_MS: '0' });
  expect(await service.exit).toBe(1);
  expect(service.output()).toContain('/dev/null/dir');
});
