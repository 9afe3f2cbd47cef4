// Two checkouts side by side: `node tools/bench/src/compare.ts /path/to/the/other [blocks]`. A mesh of each runs `true`
// in turns with the other and with its own agent straight, so that both meet the same moments of the machine. Of
// two equal checkouts `rest` differs by 0.1 ms and `added` by 0.3, since guests differ; two runs of the bench do by one. What
// a mesh costs while it rests slows both.
import { join, resolve } from 'node:path';

import { repositoryRoot } from '@wrenn/cli/mesh/options';
import { table } from '@wrenn/cli/output/table';
import { interruptedCode, runWithMeshes } from '@wrenn/e2e/run-with-meshes';

import { middleMean } from './measurement.ts';

type Meshes = typeof import('@wrenn/e2e/mesh');
type Execs = typeof import('./exec.ts');

const slotsEach = 16;
const firstSlot = Number(process.env['WRENN_E2E_FIRST_SLOT'] ?? 20_300);
const blockTurns = 10;
const warmUpBlocks = 100; // Until every process on the way runs compiled code.
const [otherTree, blocks] = [process.argv[2], Number(process.argv[3] ?? 50)];
const tell = (line: string) => void process.stderr.write(`${line}\n`);
if (otherTree === undefined || !Number.isInteger(blocks) || blocks < 1) {
  tell('compare: node tools/bench/src/compare.ts OTHER_CHECKOUT [BLOCKS of ten, 50 unless told]');
  process.exit(2);
}
const trees = [repositoryRoot, resolve(otherTree)];

// One checkout's mesh and guest.
interface Side extends AsyncDisposable {
  readonly tree: string;
  turn(): Promise<Turn>;
}

// All in ms: of the exec straight at the agent, of that through the mesh less it, of the part that vm-runtime had the
// agent for less it, and the rest.
interface Turn {
  readonly straightMs: number;
  readonly addedMs: number;
  readonly agentLegMs: number;
  readonly restMs: number;
}

async function openSide(tree: string, nth: number, dataDir: string): Promise<Side> {
  // Whatever the checkout is: its own client, its own services.
  const { TestMesh } = (await import(join(tree, 'tools/e2e/src/mesh.ts'))) as Meshes;
  const { AgentExec, execTrue, timed } = (await import(join(tree, 'tools/bench/src/exec.ts'))) as Execs;
  const slot = firstSlot + nth * slotsEach;
  const place = { dataDir: join(dataDir, String(nth)), firstSlot: slot, lastSlot: slot + slotsEach - 1 };
  await using undo = new AsyncDisposableStack();
  const mesh = undo.use(await TestMesh.start({ place, templates: ['minimal'], logLevel: 'warn' }));
  const guest = await mesh.create();
  const agent = undo.adopt(await AgentExec.at(guest), (opened) => opened.close());
  const turn = async (): Promise<Turn> => {
    const straightMs = await timed(() => agent.runTrue());
    let inAgentMs = 0;
    const meshMs = await timed(async () => {
      inAgentMs = await execTrue(mesh, guest.id);
    });
    return { straightMs, addedMs: meshMs - straightMs, agentLegMs: inAgentMs - straightMs, restMs: meshMs - inAgentMs };
  };
  const held = undo.move();
  return { tree, turn, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

async function compare(dataDir: string, interrupted: AbortSignal): Promise<void> {
  await using open = new AsyncDisposableStack();
  const sides: Side[] = [];
  for (const [nth, tree] of trees.entries()) {
    tell(`compare: starting a mesh of ${tree}`);
    sides.push(open.use(await openSide(tree, nth, dataDir)));
    interrupted.throwIfAborted(); // The other checkout's meshes are not known to this one's frame.
  }
  tell(`compare: ${warmUpBlocks} blocks of ${blockTurns} to warm up, then ${blocks}`);
  const turns = sides.map((): Turn[] => []);
  for (let block = -warmUpBlocks; block < blocks; block++) {
    for (const [nth, side] of sides.entries()) {
      await side.turn(); // Its guest has waited for the other's, which costs it a millisecond.
      for (let i = 0; i < blockTurns; i++) {
        const turn = await side.turn();
        if (block >= 0) turns[nth]?.push(turn);
      }
    }
  }
  const rows = sides.map(({ tree }, nth) => [tree, ...figures(turns[nth] ?? [])]);
  process.stdout.write(
    `${table(['CHECKOUT', 'STRAIGHT', 'ADDED', 'AGENT LEG', 'REST'], rows)}\nms, mean of the middle half\n`,
  );
}

function figures(turns: readonly Turn[]): string[] {
  const columns = ['straightMs', 'addedMs', 'agentLegMs', 'restMs'] as const;
  return columns.map((name) => middleMean(turns.map((turn) => turn[name])).toFixed(3));
}

process.exit((await runWithMeshes('compare', compare, tell)) ? 0 : interruptedCode);
