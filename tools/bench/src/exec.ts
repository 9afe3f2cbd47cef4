// The two ways to run `true` in a guest that are measured against each other.
import type { Guest } from '@wrenn/e2e/guest';
import type { TestMesh } from '@wrenn/e2e/mesh';
import { inMs } from '@wrenn/kit/deadlines';
import { type RpcClient, Lanes } from '@wrenn/kit/lanes';
import { Process } from '@wrenn/proto/process/process';
import { Metadata } from 'nice-grpc-common';

const limitMs = 30_000;

// Straight at the guest's agent, on a lane as vm-runtime has one.
export class AgentExec {
  readonly #lanes: Lanes;
  readonly #agent: RpcClient<(typeof Process)['method']>;

  private constructor(address: string) {
    this.#lanes = new Lanes(`${address}:49983`, 'the guest agent');
    this.#agent = this.#lanes.client('interactive', Process);
  }

  static async at(guest: Guest): Promise<AgentExec> {
    return new AgentExec(await guest.address());
  }

  // `traceparent` is what a mesh that records the call would send along.
  async runTrue(traceparent?: string): Promise<void> {
    const request = { process: { cmd: 'true' }, stdin: false };
    const call = { ...inMs(limitMs), ...(traceparent !== undefined && { metadata: Metadata({ traceparent }) }) };
    let exitCode: number | undefined;
    // To the stream's own end, as vm-runtime does: leaving it sooner would cancel the call.
    for await (const { event } of this.#agent.start(request, call)) {
      if (event?.event.case === 'end') ({ exitCode } = event.event.value);
    }
    if (exitCode !== 0) throw new Error(`\`true\` ended with ${exitCode} at the agent`);
  }

  close(): void {
    this.#lanes.close();
  }
}

// Returns the part of the time that vm-runtime had the agent for, in ms.
export async function execTrue(mesh: TestMesh, sandboxId: string): Promise<number> {
  const request = { sandboxId, process: { command: 'true' } };
  const { exitCode, duration } = await mesh.client.processes.exec(request, inMs(limitMs));
  if (exitCode !== 0 || !duration) throw new Error(`\`true\` exited with ${exitCode}`);
  return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAtMs = performance.now();
  await work();
  return performance.now() - startedAtMs;
}
