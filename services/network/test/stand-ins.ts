// Guests without a VM, and an internet without a way out: real network stacks in namespaces of their own,
// joined to the slots and to the host as a VM and an uplink would be.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import type { Slot } from '@wrenn/proto/wrenn/network/v1/network';

const script = join(import.meta.dirname, 'guest-side.ts');
const joiner = join(import.meta.dirname, 'tap-guest.py');
// Where everything in these tests serves.
export const port = 7777;
// An uplink of the host and a server beyond it, at global addresses that nobody needs to reach (AS112). A suite
// has one of its own, since suites run at the same time.
export interface Uplink {
  readonly id: number; // Of no slot that has a guest.
  readonly host: string;
  readonly server: string;
}

// A namespace with programs in it; all of it ends with the scope.
export class StandIn implements AsyncDisposable {
  readonly namespace: string;
  readonly #children: ChildProcess[] = [];

  constructor(namespace: string) {
    this.namespace = namespace;
  }

  // Starts a program and resolves to its output so far, once it has said `word`.
  async start(program: string, args: readonly string[], word: string): Promise<{ text: string }> {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#children.push(child);
    const output = { text: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output.text += text));
    await eventually(`${word} from ${program}`, () => output.text.includes(word));
    return output;
  }

  serve(): Promise<{ text: string }> {
    return this.start('nsenter', this.#inside('serve'), 'serving');
  }

  // What came of dialling each host: `answered …`, `dropped` or an error code.
  async dial(...hosts: readonly string[]): Promise<Record<string, string>> {
    return JSON.parse(await runProgram('nsenter', this.#inside('dial', '1500', ...hosts))) as Record<string, string>;
  }

  async send(text: string, host: string, from: string): Promise<void> {
    await runProgram('nsenter', this.#inside('send', text, host, from));
  }

  receive(): Promise<{ text: string }> {
    return this.start('nsenter', this.#inside('receive'), 'receiving');
  }

  // Uploads over TCP and resolves to the seconds until the server had it all.
  async upload(bytes: number, host: string): Promise<number> {
    const printed = await runProgram('nsenter', this.#inside('upload', String(bytes), host), { timeoutMs: 120_000 });
    return Number(printed) / 1000;
  }

  async endPrograms(): Promise<void> {
    for (const child of this.#children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.endPrograms();
    await remove(this.namespace);
  }

  #inside(...args: readonly string[]): string[] {
    return [`--net=/run/netns/${this.namespace}`, process.execPath, script, ...args];
  }
}

// What the host gets when it dials the same way.
export async function dialFromHost(...hosts: readonly string[]): Promise<Record<string, string>> {
  return JSON.parse(await runProgram(process.execPath, [script, 'dial', '1500', ...hosts])) as Record<string, string>;
}

// A guest in a slot, its TAP held by a process that runs as the slot's VMM user.
export async function startGuest(slot: Slot): Promise<StandIn> {
  const namespace = `wrenn-test-guest-${slot.index}`;
  await remove(namespace);
  await runProgram('ip', ['netns', 'add', namespace]);
  await batch(
    ['-netns', namespace],
    'tuntap add dev eth0 mode tap',
    `link set eth0 address ${slot.guestMac} up`,
    'link set lo up',
    'addr add 169.254.0.21/30 dev eth0',
    'route add default via 169.254.0.22',
  );
  const guest = new StandIn(namespace);
  await guest.start('python3', [joiner, slot.namespace, String(slot.vmmUid), namespace], 'joined');
  return guest;
}

// The server of an uplink, reached under its own address and under `others`.
export async function startInternet(uplink: Uplink, others: readonly string[] = []): Promise<StandIn> {
  const namespace = `wrenn-test-net-${uplink.id}`;
  const link = uplinkOf(namespace);
  await remove(namespace);
  await runProgram('ip', ['netns', 'add', namespace]);
  await batch(
    [],
    `link add ${link} type veth peer name eth0 netns ${namespace}`,
    `addr add ${uplink.host}/31 dev ${link}`,
    `link set ${link} up`,
    ...others.map((address) => `route add ${address}/32 via ${uplink.server} dev ${link}`),
  );
  await batch(
    ['-netns', namespace],
    'link set lo up',
    `addr add ${uplink.server}/31 dev eth0`,
    ...others.map((address) => `addr add ${address}/32 dev lo`),
    'link set eth0 up',
    `route add default via ${uplink.host}`,
  );
  return new StandIn(namespace);
}

function uplinkOf(namespace: string): string {
  return `wrtest-${namespace.split('-').at(-1)}`;
}

async function batch(options: readonly string[], ...lines: readonly string[]): Promise<void> {
  await runProgram('ip', [...options, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}

// Also clears what an earlier run left that was killed. A link outlives its namespace for a moment, so it
// is deleted by itself.
async function remove(namespace: string): Promise<void> {
  const link = uplinkOf(namespace);
  if (existsSync(`/sys/class/net/${link}`)) await runProgram('ip', ['link', 'del', link]);
  if (existsSync(`/run/netns/${namespace}`)) await runProgram('ip', ['netns', 'del', namespace]);
}
