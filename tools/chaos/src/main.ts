// Seeded trouble for a private mesh: `main.ts --seed N --minutes M [--fault text]`, `main.ts soak --seed N --count N`,
// or `main.ts pauses --seed N --count N --minutes M`. Prints the seed, what happened, and what each service took;
// exits with 1 after any breach.
import { randomInt } from 'node:crypto';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { messageOf } from '@wrenn/kit/errors';
import { interruptedCode, runWithMeshes } from '@wrenn/e2e/run-with-meshes';
import { TestMesh } from '@wrenn/e2e/mesh';

import { runChaos } from './chaos.ts';
import { Dice } from '@wrenn/kit/testkit/dice';
import { growthTable, measure } from './growth.ts';
import { History } from './history.ts';
import { runPauses } from './pauses.ts';
import { runSoak } from './soak.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string' },
    minutes: { type: 'string' },
    count: { type: 'string' },
    fault: { type: 'string', default: '' },
    'rounds-only': { type: 'boolean', default: false },
    'first-slot': { type: 'string' },
  },
});
const defaults: Readonly<Record<string, { minutes: number; count: number; firstSlot: number; slotCount: number }>> = {
  chaos: { minutes: 5, count: 0, firstSlot: 20_500, slotCount: 32 },
  soak: { minutes: 5, count: 1000, firstSlot: 20_500, slotCount: 32 },
  pauses: { minutes: 60, count: 200, firstSlot: 20_632, slotCount: 16 },
};
const mode = positionals[0] ?? 'chaos';
const seed = Number(values.seed ?? randomInt(1_000_000));
const minutes = Number(values.minutes ?? defaults[mode]?.minutes);
const count = Number(values.count ?? defaults[mode]?.count);
const firstSlot = Number(values['first-slot'] ?? defaults[mode]?.firstSlot);
const numbersAreGood = [seed, count, firstSlot].every((value) => Number.isInteger(value) && value >= 0) && minutes > 0;
if (!(mode in defaults) || positionals.length > 1 || !numbersAreGood) {
  process.stderr.write(
    'usage: chaos [--seed N] [--minutes M] [--fault TEXT] [--rounds-only] | soak [--seed N] [--count N] | ' +
      'pauses [--seed N] [--count N] [--minutes M] [--fault TEXT]\n',
  );
  process.exit(2);
}

const history = new History(join(repositoryRoot, '.build/chaos', `${mode}-${seed}.log`));
history.note(`${mode}, seed ${seed}: again with \`node tools/chaos/src/main.ts ${mode} --seed ${seed}\``);
const tell = (line: string) => void process.stdout.write(`${mode}: ${line}\n`);
if (!(await runWithMeshes('chaos', runUntil, tell))) process.exit(interruptedCode);
const { breaches } = history;
for (const breach of breaches) process.stdout.write(`BREACH ${breach}\n`);
process.stdout.write(`${mode}: seed ${seed}, ${breaches.length} breaches; history in ${history.path}\n`);
process.exit(breaches.length > 0 ? 1 : 0);

function runUntil(dataDir: string, interrupted: AbortSignal): Promise<void> {
  interrupted.addEventListener('abort', () => history.end());
  return run(dataDir);
}

async function run(dataDir: string): Promise<void> {
  const failpointFile = join(dataDir, 'failpoints');
  const slots = { firstSlot, lastSlot: firstSlot + (defaults[mode]?.slotCount ?? 0) - 1 };
  const mesh = await TestMesh.start({ place: { dataDir, ...slots }, templates: ['minimal'], failpointFile });
  try {
    const dice = new Dice(seed);
    const filter = values.fault;
    let before = measure(mesh.mesh);
    if (mode === 'soak') before = await runSoak({ mesh, dice, history, count });
    else if (mode === 'pauses') {
      const limitMs = minutes * 60_000;
      await runPauses({ mesh, dice, seed, history, count, limitMs, failpointFile, filter });
    } else {
      const roundsMs = minutes * 60_000;
      const isRoundsOnly = values['rounds-only'];
      await runChaos({ mesh, dice, seed, history, roundsMs, failpointFile, filter, isRoundsOnly });
    }
    process.stdout.write(`\n${growthTable(before, measure(mesh.mesh))}\n\n`);
  } finally {
    // What a mesh says goes with it.
    if (history.breaches.length > 0) await cp(mesh.logsDir, `${history.path}s`, { recursive: true });
    try {
      for (const leftover of await mesh.close()) history.breach(`left behind: ${leftover}`);
    } catch (error) {
      history.breach(`the mesh does not stop: ${messageOf(error)}; see ${mesh.mesh.options.runDir}`);
    }
  }
}
