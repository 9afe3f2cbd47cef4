// What the host itself must offer before any slot works. Only what is missing is changed, each change is
// logged, and none but the firewall table is taken back (docs/decisions/0003-network-slots.md).
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';

import type { Log } from '@wrenn/kit/log';
import { ProgramError, type RunProgram } from '@wrenn/kit/run-program';

import { hostRules, hostTable, noHostRules } from '../domain/firewall.ts';
import type { SlotRange } from '../domain/slot.ts';

const forwarding = '/proc/sys/net/ipv4/ip_forward';
const tun = '/dev/net/tun';

export class Host {
  readonly #run: RunProgram;
  readonly #log: Log;

  constructor(run: RunProgram, log: Log) {
    this.#run = run;
    this.#log = log;
  }

  async prepare(range: SlotRange): Promise<void> {
    await this.#openTun();
    // The rules first: a host that forwards packets must not do so for a moment without them.
    await this.#run('nft', ['-f', '-'], { input: hostRules(range) });
    await this.#forwardPackets();
    await this.#warnOfForwardPolicy();
    this.#log.info({ table: hostTable(range) }, 'host rules in place');
  }

  async removeRules(range: SlotRange): Promise<void> {
    await this.#run('nft', ['-f', '-'], { input: noHostRules(range) });
  }

  // VMMs run as unprivileged users and open their TAP device by name. This file alone gives no access:
  // the device's owner is checked too. Debian's udev sets this mode; where no udev runs, nobody does.
  async #openTun(): Promise<void> {
    const { mode } = await stat(tun).catch((cause: unknown) => {
      throw new Error(`${tun} is missing: load the kernel module tun`, { cause });
    });
    if ((mode & 0o666) === 0o666) return;
    await chmod(tun, 0o666);
    this.#log.warn({ path: tun, mode: '0666' }, 'opened the TUN device to all users, as udev does');
  }

  async #forwardPackets(): Promise<void> {
    if ((await readFile(forwarding, 'utf8')).trim() === '1') return;
    await writeFile(forwarding, '1');
    this.#log.warn({ setting: 'net.ipv4.ip_forward=1' }, 'turned IPv4 forwarding on');
  }

  // An accept of ours cannot overrule a drop in another table, and those belong to the administrator.
  async #warnOfForwardPolicy(): Promise<void> {
    let chain: string;
    try {
      chain = await this.#run('nft', ['list', 'chain', 'ip', 'filter', 'FORWARD']);
    } catch (error) {
      if (error instanceof ProgramError) return; // There is no such chain.
      throw error;
    }
    if (!/policy drop/.test(chain)) return;
    this.#log.warn(
      { fix: 'iptables -I FORWARD -i wrenn-v-+ -j ACCEPT; iptables -I FORWARD -o wrenn-v-+ -j ACCEPT' },
      'this host drops forwarded packets, as Docker sets it up: guests will not reach the internet',
    );
  }
}
