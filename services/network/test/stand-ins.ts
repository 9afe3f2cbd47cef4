// Guests without a VM, and an internet without a way out: real network stacks in namespaces of their own,
// joined to the slots and to the host as a VM and an uplink would be.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';
import { eventually } from '@wrenn/kit/testkit/eventually';
import type { Slot } from '@wrenn/proto/wrenn/network/v1/network';

const script = join(import.meta.dirname, 'guest-side.ts');
const joiner = join(import.meta.dirname, 'tap-guest.py');
export const port = 7777;
// Global addresses that nobody needs to reach (AS112), for the host's uplink and a server beyond it.
export const uplink = { host: '192.31.196.2', server: '192.31.196.3' } as const;

// A namespace with programs in it; both end with the scope.
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
    return this.start('nsenter', this.#inside('serve', String(port)), 'serving');
  }

  async dial(...hosts: readonly string[]): Promise<Record<string, string>> {
    const targets = hosts.map((host) => (host.includes(':') ? host : `${host}:${port}`));
    const output = await runProgram('nsenter', this.#inside('dial', '1500', ...targets));
    const outcomes = JSON.parse(output) as Record<string, string>;
    return Object.fromEntries(hosts.map((host, i) => [host, outcomes[targets[i] ?? ''] ?? 'not dialled']));
  }

  async send(text: string, host: string, from: string): Promise<void> {
    await runProgram('nsenter', this.#inside('send', text, `${host}:${port}`, from));
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
    await runProgram('ip', ['netns', 'del', this.namespace]);
  }

  #inside(...args: readonly string[]): string[] {
    return [`--net=/run/netns/${this.namespace}`, process.execPath, script, ...args];
  }
}

// A guest in a slot, its TAP held by a process that runs as the slot's VMM user.
export async function startGuest(slot: Slot): Promise<StandIn> {
  const guest = new StandIn(`wrenn-test-guest-${slot.index}`);
  await runProgram('ip', ['netns', 'add', guest.namespace]);
  const setUp = [
    'tuntap add dev eth0 mode tap',
    `link set eth0 address ${slot.guestMac} up`,
    'link set lo up',
    'addr add 169.254.0.21/30 dev eth0',
    'route add default via 169.254.0.22',
  ];
  await runProgram('ip', ['-netns', guest.namespace, '-batch', '-'], { input: `${setUp.join('\n')}\n` });
  await guest.start('python3', [joiner, slot.namespace, String(slot.vmmUid), guest.namespace], 'joined');
  return guest;
}

// A server that the host reaches by an uplink, under global addresses and under `others`.
export async function startInternet(id: number, others: readonly string[]): Promise<StandIn> {
  const internet = new StandIn(`wrenn-test-net-${id}`);
  const link = `wrtest-${id}`;
  await runProgram('ip', ['netns', 'add', internet.namespace]);
  const onHost = [
    `link add ${link} type veth peer name eth0 netns ${internet.namespace}`,
    `addr add ${uplink.host}/31 dev ${link}`,
    `link set ${link} up`,
    ...others.map((address) => `route add ${address}/32 via ${uplink.server} dev ${link}`),
  ];
  await runProgram('ip', ['-batch', '-'], { input: `${onHost.join('\n')}\n` });
  const inside = [
    'link set lo up',
    `addr add ${uplink.server}/31 dev eth0`,
    ...others.map((address) => `addr add ${address}/32 dev lo`),
    'link set eth0 up',
    `route add default via ${uplink.host}`,
  ];
  await runProgram('ip', ['-netns', internet.namespace, '-batch', '-'], { input: `${inside.join('\n')}\n` });
  return internet;
}
