import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Server, type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { newSandboxId } from '@wrenn/kit/ids';
import { identifyProcess } from '@wrenn/kit/process-identity';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';

import { Pager } from './pager.ts';
import { type QemuMachine, reconnectMachine } from './qemu-machine.ts';
import { vmPaths } from './vm-paths.ts';

// A process that has a QMP socket, and answers on it or stands still.
async function standIn() {
  const dir = await tempDir();
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const held: (() => void)[] = [];
  const sockets = new Set<Socket>();
  const self = { isFrozen: true, connections: 0 };
  const server: Server = createServer((socket) => {
    self.connections += 1;
    sockets.add(socket);
    socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket));
    socket.on('data', (text) => {
      const answer = () => {
        for (const line of text.toString().split('\n').filter(Boolean)) {
          const { id } = JSON.parse(line) as { id: number };
          socket.write(`{"return": {"status": "running"}, "id": ${id}}\r\n`);
        }
      };
      if (self.isFrozen) held.push(answer);
      else answer();
    });
  });
  const path = join(dir.path, 'qmp.sock');
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const end = async () => {
    child.kill('SIGKILL');
    for (const socket of sockets) socket.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  };
  return Object.assign(self, {
    parts: {
      processes: { vmm: identifyProcess(child.pid!)!, memory: 'boot' as const },
      paths: { ...vmPaths({ vmsDir: dir.path, ramDir: dir.path }, newSandboxId()), qmp: path },
      pager: new Pager('/none'),
    },
    thaw: () => {
      self.isFrozen = false;
      for (const answer of held.splice(0)) answer();
    },
    end,
    [Symbol.asyncDispose]: async () => {
      await end();
      await dir[Symbol.asyncDispose]();
    },
  });
}

test('one that stands still is taken charge of at once, gives no sign, and is spoken to when it goes on', async () => {
  await using vmm = await standIn();
  const machine = reconnectMachine(vmm.parts);
  await eventually('it is being asked', () => vmm.connections === 1);
  expect(await machine.isAnswering(50)).toBe(false);
  vmm.thaw();
  await eventually('it answers', () => machine.isAnswering(500));
});

test('one that ends before it has done what it was asked to has died', async () => {
  await using vmm = await standIn();
  vmm.thaw();
  const machine = reconnectMachine(vmm.parts);
  await eventually('it answers', () => machine.isAnswering(500));
  vmm.isFrozen = true;
  const [asked, later] = [machine.goOn(), sleep(20).then(() => vmm.end())];
  await expect(asked).rejects.toMatchObject({ reason: 'VMM_DIED' });
  await later;
  await expect(machine.goOn()).rejects.toMatchObject({ reason: 'VMM_DIED' });
  expect(await machine.ended).toMatchObject({ reason: 'VMM_DIED' });
});

test('one that does not do what it was asked to is stuck, whether it was spoken to before or not', async () => {
  await using never = await standIn();
  await using noLonger = await standIn();
  noLonger.thaw();
  const machines = [reconnectMachine(never.parts), reconnectMachine(noLonger.parts)];
  await eventually('it answers', () => machines[1]!.isAnswering(500));
  noLonger.isFrozen = true;
  const stuck = (machine: QemuMachine) => expect(machine.goOn()).rejects.toMatchObject({ reason: 'VMM_STUCK' });
  await Promise.all(machines.map(stuck));
}, 20_000);

test('one that ends before it could be spoken to has died', async () => {
  await using vmm = await standIn();
  const machine = reconnectMachine(vmm.parts);
  await eventually('it is being asked', () => vmm.connections === 1);
  await vmm.end();
  expect(await machine.ended).toMatchObject({ reason: 'VMM_DIED' });
  expect(await machine.isAnswering(50)).toBe(false);
});

test('one that is given up is connected to anew, by one connection at a time', async () => {
  await using vmm = await standIn();
  const machine = reconnectMachine(vmm.parts);
  await eventually('it is asked again', () => vmm.connections === 2, 15_000);
  vmm.thaw();
  await eventually('it answers', () => machine.isAnswering(500));
  expect(vmm.connections).toBe(2);
}, 20_000);
