// Builds and removes slots with `ip` and `nft`: four short processes for one slot, three of them at once.
import { existsSync, readdirSync } from 'node:fs';

import { failpoint } from '@wrenn/kit/failpoint';
import type { RunProgram } from '@wrenn/kit/run-program';

import { type SendLimit, slotRules } from '../domain/firewall.ts';
import { hostLines, innerLines, innerSettings } from '../domain/links.ts';
import type { Leases } from '../domain/lease-book.ts';
import type { Survey } from '../domain/recovery.ts';
import { type Slot, type SlotRange, indexOfName, isWithin, slotAt, tap } from '../domain/slot.ts';
import type { SlotNetworks } from '../domain/slot-stock.ts';
import { inhabitantsOf, namespacePath, namespacesDir } from './namespaces.ts';

const linksDir = '/sys/class/net';

export class KernelSlotNetworks implements SlotNetworks {
  readonly #run: RunProgram;
  readonly #limit: SendLimit;

  constructor(run: RunProgram, limit: SendLimit) {
    this.#run = run;
    this.#limit = limit;
  }

  async build(slot: Slot): Promise<void> {
    await this.#run('ip', ['-batch', '-'], { input: hostLines(slot) });
    await failpoint('network.build.linked');
    const parts = await Promise.allSettled([
      this.#run('ip', ['-netns', slot.namespace, '-batch', '-'], { input: innerLines(slot) }),
      this.#inside(slot, 'sysctl', ['-qew', ...innerSettings]),
      this.#inside(slot, 'nft', ['-f', '-'], slotRules(slot, this.#limit)),
    ]);
    for (const part of parts) if (part.status === 'rejected') throw part.reason;
    await failpoint('network.build.done');
  }

  // A slot with a process in it is in use, whatever the book says: it is not touched.
  async remove(slot: Slot): Promise<void> {
    await failpoint('network.remove.begun');
    const inhabitants = inhabitantsOf(slot);
    if (inhabitants.length > 0) {
      throw new Error(`processes still live in ${slot.namespace}: ${inhabitants.slice(0, 5).join(', ')}`);
    }
    const { hasLink, hasNamespace } = remainsOf(slot);
    // Deleting one end of the veth deletes the other and the route at once; the end of a namespace alone
    // would do so only some time later.
    const lines = [hasLink && `link del ${slot.hostLink}`, hasNamespace && `netns del ${slot.namespace}`];
    const batch = lines.filter((line) => line !== false);
    if (batch.length > 0) await this.#run('ip', ['-batch', '-'], { input: `${batch.join('\n')}\n` });
    const left = remainsOf(slot);
    if (left.hasLink || left.hasNamespace) throw new Error(`slot ${slot.index} is still there after its removal`);
    await failpoint('network.remove.done');
  }

  async survey(range: SlotRange, leases: Leases): Promise<Survey> {
    const present = new Set<number>();
    for (const name of [...namesIn(linksDir), ...namesIn(namespacesDir)]) {
      const index = indexOfName(name);
      if (index !== undefined && isWithin(range, index)) present.add(index);
    }
    const whole = new Set<number>();
    for (const index of leases.values()) {
      if (present.has(index) && (await this.#isWhole(slotAt(index)))) whole.add(index);
    }
    return { present, whole };
  }

  async #isWhole(slot: Slot): Promise<boolean> {
    const { hasLink, hasNamespace } = remainsOf(slot);
    if (!hasLink || !hasNamespace) return false;
    const checks = await Promise.allSettled([
      this.#run('ip', ['-netns', slot.namespace, 'link', 'show', 'dev', 'eth0']),
      this.#run('ip', ['-netns', slot.namespace, 'link', 'show', 'dev', tap.name]),
      this.#inside(slot, 'nft', ['list', 'chain', 'inet', 'wrenn', 'forward']),
    ]);
    return checks.every((check) => check.status === 'fulfilled');
  }

  #inside(slot: Slot, program: string, args: readonly string[], input = ''): Promise<string> {
    return this.#run('nsenter', [`--net=${namespacePath(slot.namespace)}`, program, ...args], { input });
  }
}

function remainsOf(slot: Slot): { hasLink: boolean; hasNamespace: boolean } {
  return {
    hasLink: existsSync(`${linksDir}/${slot.hostLink}`),
    hasNamespace: existsSync(namespacePath(slot.namespace)),
  };
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
