// The commands about snapshots, against a gateway that answers what a test tells it to.
import { join } from 'node:path';

import { timestampOf } from '@wrenn/kit/duration';
import { WrennError } from '@wrenn/kit/errors';
import { openLog } from '@wrenn/kit/log';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { partialHandlers } from '@wrenn/kit/testkit/partial';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { newSandboxId, newSnapshotId } from '@wrenn/kit/ids';
import { SandboxService, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { SnapshotService } from '@wrenn/proto/wrenn/v1/snapshot';
import type { Command } from 'commander';
import { expect, test } from 'vitest';

import { ExitError, UsageError } from '../exit-codes.ts';
import { formatAge } from '../output/units.ts';
import type { CommandContext } from './context.ts';
import { forkCommand } from './fork.ts';
import { inspectCommand } from './inspect.ts';
import { lsCommand } from './ls.ts';
import { pauseCommand } from './pause.ts';
import { resumeCommand } from './resume.ts';
import { snapshotCommand } from './snapshot.ts';

const id = newSandboxId();
const snapshotId = newSnapshotId();
const atMs = 1_700_000_000_000;
const at = timestampOf(new Date(atMs));
const timings = [{ stage: 'freeze', duration: { nanos: 12_000_000 } }];
const sandbox = (state: SandboxState, fields = {}) => ({
  id,
  state,
  template: 'debian',
  vcpuCount: 1,
  createdAt: at,
  expiresAt: at,
  ...fields,
});
const snapshot = { name: 'warm', id: snapshotId, template: 'debian', hostId: 'h1', vcpuCount: 2, createdAt: at };

class Gateway implements AsyncDisposable {
  readonly printed: string[] = [];
  readonly told: string[] = [];
  readonly requests: unknown[] = [];
  isDurable = false;
  readonly #server = new RpcServer({ log: openLog('test', 'silent'), drainMs: 100 });
  #dir: Awaited<ReturnType<typeof tempDir>> | undefined;
  #address = '';

  async start(): Promise<this> {
    this.#dir = await tempDir();
    this.#address = `unix:${join(this.#dir.path, 'gateway.sock')}`;
    const seen =
      <T>(answer: T) =>
      async (request: unknown) => {
        this.requests.push(request);
        return answer;
      };
    const paused = { snapshotId };
    this.#server.add(
      SandboxService,
      partialHandlers(SandboxService, {
        get: async () => ({ sandbox: sandbox(SandboxState.PAUSED, { ...paused, isDurable: this.isDurable }) }),
        list: seen({ sandboxes: [sandbox(SandboxState.PAUSED, paused)] }),
        pause: async ({ waitDurable }) => {
          this.requests.push({ waitDurable });
          return { sandbox: sandbox(SandboxState.PAUSED, { isDurable: waitDurable }), timings };
        },
        resume: seen({ sandbox: sandbox(SandboxState.RUNNING), timings: [] }),
        fork: seen({ sandboxes: [sandbox(SandboxState.RUNNING), sandbox(SandboxState.RUNNING)], timings }),
      }),
    );
    this.#server.add(
      SnapshotService,
      partialHandlers(SnapshotService, {
        create: seen({ snapshot }),
        list: seen({ snapshots: [snapshot] }),
        get: seen({
          snapshot: {
            ...snapshot,
            generation: 1,
            builds: [
              { id: snapshotId, generation: 1, memoryBytes: 2n ** 20n, diskBytes: 4096n },
              { id: newSnapshotId(), generation: 0, memoryBytes: 2n ** 28n, diskBytes: 8192n },
            ],
          },
        }),
        delete: async ({ name }) => {
          if (name !== 'warm') throw new WrennError('SNAPSHOT_NOT_FOUND', `no snapshot ${name}`);
          return {};
        },
      }),
    );
    await this.#server.listen(this.#address);
    this.#server.ready();
    return this;
  }

  async run(make: (context: CommandContext) => Command, ...args: string[]): Promise<void> {
    const gateway = this.#address;
    const context: CommandContext = {
      config: { gateway, gatewayBulk: gateway } as CommandContext['config'],
      env: {},
      print: (line) => void this.printed.push(line),
      tell: (line) => void this.told.push(line),
    };
    await make(context).exitOverride().parseAsync(args, { from: 'user' });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.close();
    await this.#dir?.[Symbol.asyncDispose]();
  }
}

test('pauses, and tells the stages and whether a power cut could lose it', async () => {
  await using gateway = await new Gateway().start();
  await gateway.run(pauseCommand, id);
  expect(gateway.printed).toEqual([id]);
  expect(gateway.told).toEqual(['paused: freeze 12 ms', 'being written to disk; --wait waits for it']);
  await gateway.run(pauseCommand, id, '--wait', '--json');
  expect(gateway.requests.slice(-2)).toEqual([{ waitDurable: false }, { waitDurable: true }]);
  expect(JSON.parse(gateway.printed.at(-1) ?? '')).toMatchObject({
    sandbox: { id, state: 'SANDBOX_STATE_PAUSED', isDurable: true },
    timings: [{ stage: 'freeze', duration: '0.012s' }],
  });
});

test('resumes for as long as it is told, and says when it was running already', async () => {
  await using gateway = await new Gateway().start();
  await gateway.run(resumeCommand, id, '--ttl', '2h');
  expect(gateway.requests).toMatchObject([{ sandboxId: id, ttl: { seconds: 7200n } }]);
  expect([gateway.printed, gateway.told]).toEqual([[id], ['it was running already']]);
  await expect(gateway.run(resumeCommand, id, '--ttl', 'soon')).rejects.toThrow(UsageError);
});

test('forks as often as asked, and prints the id of each', async () => {
  await using gateway = await new Gateway().start();
  await gateway.run(forkCommand, id, '-n', '2', '--env', 'A=1', '--meta', 'k=v', '--request-id', 'r');
  expect(gateway.requests).toMatchObject([{ count: 2, env: { A: '1' }, metadata: { k: 'v' }, requestId: 'r' }]);
  expect([gateway.printed, gateway.told]).toEqual([[id, id], ['forked: freeze 12 ms']]);
  await expect(gateway.run(forkCommand, id, '-n', '65')).rejects.toThrow('--count must be 1 to 64');
});

test('makes, lists, shows and deletes snapshots', async () => {
  await using gateway = await new Gateway().start();
  await gateway.run(snapshotCommand, 'create', id, 'warm');
  expect(gateway.requests).toMatchObject([{ sandboxId: id, name: 'warm' }]);
  expect(gateway.printed).toEqual(['warm']);
  await gateway.run(snapshotCommand, 'ls');
  expect(gateway.printed.at(-1)).toMatch(/^NAME +TEMPLATE +HOST .*\nwarm +debian +h1 /);
  await gateway.run(snapshotCommand, 'inspect', 'warm');
  expect(gateway.printed.at(-1)).toMatch(/generation {2}1\n/);
  expect(gateway.printed.at(-1)).toMatch(/GENERATION +BUILD .*\n1 +sn-\w+ +1 MiB +4 KiB\n0 +sn-\w+ +256 MiB +8 KiB$/);
  await expect(gateway.run(snapshotCommand, 'rm', 'cold', 'warm')).rejects.toThrow(ExitError);
  expect(gateway.printed.at(-1)).toBe('warm');
  expect(gateway.told.at(-1)).toBe('cold: no snapshot cold [SNAPSHOT_NOT_FOUND]');
});

test('shows that a sandbox is paused, on what it stands, and no time at which it would expire', async () => {
  await using gateway = await new Gateway().start();
  await gateway.run(lsCommand);
  const age = formatAge(Date.now() - atMs);
  expect(gateway.printed[0]).toMatch(new RegExp(` paused +${age} +- +1 `));
  await gateway.run(inspectCommand, id);
  expect(gateway.printed[1]).toContain(`snapshot  ${snapshotId}`);
  expect(gateway.printed[1]).toContain('durable   not yet');
  expect(gateway.printed[1]).not.toContain('expires');
  gateway.isDurable = true;
  await gateway.run(inspectCommand, id);
  expect(gateway.printed[2]).toContain('durable   yes');
});
