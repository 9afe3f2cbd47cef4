// What everything else does to a keystroke: one key at a terminal and back, in a sandbox that is idle, that serves
// WebSockets and bodies at half of what it can, beside a neighbour and a server of this machine that are flooded through
// the edge, and that a file of 1 GiB moves in or out of. Through the mesh and straight at the agent in turns, as in
// breadth-exec.ts: guests may be emulated, and what is judged is what the mesh adds under the same load. Then the same
// once more with the API, terminals, files and the edge on one event loop, and terminals and files of the client on one
// connection: what is left of it then is what isolation buys.
import { join } from 'node:path';

import { MeshClient } from '@wrenn/cli/client';
import { GrpcBytes, RemoteFiles } from '@wrenn/cli/files/remote-files';
import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { newSandboxId } from '@wrenn/kit/ids';

import { asStream, chunks, drain, uncut } from './bytes.ts';
import { EchoTerminal } from './echo.ts';
import { startGuestWeb, webPort } from './guest-web.ts';
import { LoadProcess } from './load-process.ts';
import { type Direction, Load, loadPath } from './load.ts';
import { type Measurement, type Row, percentile, row } from './measurement.ts';
import { takePrecedence } from './precedence.ts';

const template = 'debian';
const diskBytes = 4n * 2n ** 30n; // For 1 GiB on its way in beside what is read.
const fileBytes = 2 ** 28; // Read again and again.
const transferBytes = 2 ** 30;
const warmUpRounds = 300; // Until every process on the way runs compiled code.
const blocks = 6; // Of each condition, taken in turns; every other one with the other direction.
const blockRounds = 100;
const settlingRounds = 10; // Of each block: what it begins with is the load's start, and caches that others have used.
const calibrationMs = 4000;
const mostTimes = 1.5;
const conditions = ['idle', 'half', 'flood', 'bulk'] as const;
const loaded = ['half', 'flood', 'bulk'] as const;
const shapes = ['mesh', 'one'] as const;
type Condition = (typeof conditions)[number];
type Shape = (typeof shapes)[number];
type Samples = Record<Condition, { agent: number[]; through: number[] }>;

// One way from a client to the sandboxes: its terminal, its edge and its transfers.
interface Way {
  readonly echo: EchoTerminal;
  readonly edgePort: number;
  // Of a server on this machine, behind the code of the edge.
  readonly hostUrl: string;
  transfer(direction: Direction): Promise<AsyncDisposable>;
}

const idOf = (shape: Shape, condition: Condition, what: string) =>
  `edge.echo_${shape === 'mesh' ? '' : 'one_'}${condition}_${what}`;

export const edgeTerminal: Measurement = {
  ids: [
    ...shapes.flatMap((shape) => [
      ...conditions.flatMap((condition) =>
        ['agent_p50', 'agent_p99', 'mesh_p50', 'mesh_p99', 'difference_p50', 'difference_p99'].map((what) =>
          idOf(shape, condition, what),
        ),
      ),
      ...loaded.map((condition) => idOf(shape, condition, 'ratio')),
    ]),
    'edge.echo_bytes',
    'edge.echo_samples',
  ],
  async run(mesh, tell) {
    await using stack = new AsyncDisposableStack();
    stack.use(await takePrecedence());
    const [guest, neighbour] = [await mesh.create(template, { diskBytes }), await mesh.create(template)];
    stack.defer(async () => void (await Promise.all([guest.destroy(), neighbour.destroy()])));
    const bytes = new GrpcBytes(new RemoteFiles(mesh.client, guest.id));
    await bytes.write(loadPath, 0, asStream(chunks(fileBytes)), uncut);
    for (const one of [guest, neighbour]) await startGuestWeb(mesh, one);
    const host = stack.use(await LoadProcess.run('edge-host.ts'));
    const { fastPort, edgePort } = JSON.parse(host.told) as { fastPort: number; edgePort: number };
    const agent = await EchoTerminal.atAgent(guest);
    stack.defer(() => agent.close());
    const meshWay = await throughMesh(mesh, guest, hostUrl(edgePort, fastPort));
    const oneWay = await throughOneLoop(mesh, guest, fastPort, stack);
    stack.defer(() => meshWay.echo.close());
    const perSecond = await calibrated(meshWay, guest);
    tell(`the guest serves ${perSecond.toFixed(0)} exchanges a second`);

    const samples: Record<Shape, Samples> = { mesh: emptySamples(), one: emptySamples() };
    const ways: Record<Shape, Way> = { mesh: meshWay, one: oneWay };
    for (const shape of shapes) await takeTurns(agent, ways[shape].echo, warmUpRounds, { agent: [], through: [] });
    for (let block = 0; block < blocks; block++) {
      for (const shape of shapes) {
        for (const condition of conditions) {
          const direction: Direction = block % 2 === 0 ? 'up' : 'down';
          await using _load = await begin(condition, ways[shape], { guest, neighbour, perSecond, direction });
          await takeTurns(agent, ways[shape].echo, settlingRounds, { agent: [], through: [] });
          await takeTurns(agent, ways[shape].echo, blockRounds, samples[shape][condition]);
        }
        tell(`block ${block + 1} of ${blocks}: ${shape === 'mesh' ? 'the mesh' : 'all on one loop'}`);
      }
    }
    const checkedBytes = [agent, meshWay.echo, oneWay.echo].reduce((sum, echo) => sum + echo.checkedBytes, 0);
    return rowsOf(samples, checkedBytes);
  },
};

async function throughMesh(mesh: TestMesh, guest: Guest, hostUrl: string): Promise<Way> {
  const { edgeProxy } = mesh.mesh.addresses;
  return {
    echo: await EchoTerminal.throughMesh(mesh.client.processes, guest.id),
    edgePort: Number(edgeProxy.split(':').at(-1)),
    hostUrl,
    transfer: (direction) => Load.start(mesh, guest.id, direction),
  };
}

// A client with one connection for all it does.
class OneLaneClient extends MeshClient {
  override readonly bytes = this.files;
}

async function throughOneLoop(
  mesh: TestMesh,
  guest: Guest,
  fastPort: number,
  stack: AsyncDisposableStack,
): Promise<Way> {
  const vmsDir = join(mesh.mesh.options.runDir, 'vm-runtime', 'vms');
  const server = stack.use(await LoadProcess.run('one-loop.ts', vmsDir));
  const { rpcPort, edgePort } = JSON.parse(server.told) as { rpcPort: number; edgePort: number };
  const client = stack.use(new OneLaneClient(`127.0.0.1:${rpcPort}`));
  const echo = await EchoTerminal.throughMesh(client.processes, guest.id);
  stack.defer(() => echo.close());
  return {
    echo,
    edgePort,
    hostUrl: hostUrl(edgePort, fastPort),
    transfer: async (direction) => transferHere(new GrpcBytes(new RemoteFiles(client, guest.id)), direction),
  };
}

// Transfers one after another, on the event loop that the keys are typed on.
function transferHere(bytes: GrpcBytes, direction: Direction): AsyncDisposable {
  const stop = new AbortController();
  const { signal } = stop;
  const move = async () => {
    while (!signal.aborted) {
      if (direction === 'up') await bytes.write(loadPath, 0, asStream(chunks(transferBytes)), signal);
      else await drain((await bytes.read(loadPath, signal)).data);
    }
  };
  let failure: unknown;
  const moved = move().catch((error: unknown) => void (failure = error));
  return {
    async [Symbol.asyncDispose]() {
      if (failure) throw failure;
      stop.abort();
      await moved;
    },
  };
}

interface Scene {
  readonly guest: Guest;
  readonly neighbour: Guest;
  readonly perSecond: number;
  readonly direction: Direction;
}

async function begin(condition: Condition, way: Way, scene: Scene): Promise<AsyncDisposable> {
  const stack = new AsyncDisposableStack();
  const flood = async (url: string, perSecond = 0) =>
    void stack.use(await LoadProcess.run('edge-load-client.ts', url, `${perSecond}`));
  if (condition === 'half') await flood(urlOf(way, scene.guest), scene.perSecond / 2);
  if (condition === 'flood') await Promise.all([flood(urlOf(way, scene.neighbour)), flood(way.hostUrl)]);
  if (condition === 'bulk') stack.use(await way.transfer(scene.direction));
  return stack;
}

const hostUrl = (edgePort: number, port: number) => `http://127.0.0.1:${edgePort}/proxy/${newSandboxId()}/${port}/`;

const urlOf = ({ edgePort }: Way, { id }: Guest) => `http://127.0.0.1:${edgePort}/proxy/${id}/${webPort}/`;

// What the guest serves when it is asked for as much as it can.
async function calibrated(way: Way, guest: Guest): Promise<number> {
  await using load = await LoadProcess.run('edge-load-client.ts', urlOf(way, guest), '0');
  await new Promise((resolve) => setTimeout(resolve, calibrationMs));
  return load.perSecond;
}

function emptySamples(): Samples {
  const none = () => ({ agent: [], through: [] });
  return { idle: none(), half: none(), flood: none(), bulk: none() };
}

// Each goes first as often as the other.
async function takeTurns(agent: EchoTerminal, through: EchoTerminal, rounds: number, into: Samples[Condition]) {
  for (let round = 0; round < rounds; round++) {
    if (round % 2 === 0) into.agent.push(await agent.key());
    into.through.push(await through.key());
    if (round % 2 === 1) into.agent.push(await agent.key());
  }
}

function rowsOf(samples: Record<Shape, Samples>, checkedBytes: number): Row[] {
  const difference = (shape: Shape, condition: Condition, share: number) => {
    const { agent, through } = samples[shape][condition];
    return percentile(through, share) - percentile(agent, share);
  };
  // Both ways draw slow moments of the guest. Where the straight one drew the worse, nothing is said of p99: no way
  // adds less then than it does at p50.
  const added = (shape: Shape, condition: Condition) =>
    Math.max(difference(shape, condition, 0.5), difference(shape, condition, 0.99));
  // Where a way to the agent and more is no slower than the way to the agent, the run says nothing, and meets no goal.
  const ratio = (shape: Shape, condition: Condition) => {
    const [beside, idle] = [added(shape, condition), added(shape, 'idle')];
    return beside > 0 && idle > 0 ? beside / idle : Number.NaN;
  };
  const goal = { relation: '<=', value: mostTimes } as const;
  return [
    ...shapes.flatMap((shape) => [
      ...conditions.flatMap((condition) => {
        const { agent, through } = samples[shape][condition];
        return [
          row(idOf(shape, condition, 'agent_p50'), percentile(agent, 0.5), 'ms'),
          row(idOf(shape, condition, 'agent_p99'), percentile(agent, 0.99), 'ms'),
          row(idOf(shape, condition, 'mesh_p50'), percentile(through, 0.5), 'ms'),
          row(idOf(shape, condition, 'mesh_p99'), percentile(through, 0.99), 'ms'),
          row(idOf(shape, condition, 'difference_p50'), difference(shape, condition, 0.5), 'ms'),
          row(idOf(shape, condition, 'difference_p99'), difference(shape, condition, 0.99), 'ms'),
        ];
      }),
      ...loaded.map((condition) =>
        row(idOf(shape, condition, 'ratio'), ratio(shape, condition), 'x idle', shape === 'mesh' ? goal : null),
      ),
    ]),
    row('edge.echo_bytes', checkedBytes, 'checked'), // One that was wrong would have ended the run.
    row('edge.echo_samples', samples.mesh.idle.through.length, 'each'),
  ];
}
