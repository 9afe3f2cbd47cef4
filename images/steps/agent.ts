// The guest agent, one static binary.
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Step } from '../cache.ts';
import { hashInputs, type Inputs } from '../inputs.ts';
import { runLong } from '../run-long.ts';

const crate = 'services/guest-agent';
const binary = `${crate}/target/x86_64-unknown-linux-gnu/release/wrenn-agent`;

export function agentStep(root: string): Step {
  const sources = ['src', 'build.rs', 'Cargo.toml', 'Cargo.lock', '.cargo'].map((path) => `${crate}/${path}`);
  // What its build.rs compiles, and what that may import.
  const protos = ['process', 'filesystem', 'wrenn/agent', 'third_party'].map((path) => `proto/${path}`);
  const inputs: Inputs = { root, paths: [...sources, ...protos, 'images/steps/agent.ts'] };
  return {
    name: 'agent',
    inputs,
    build: async (dir, say) => {
      const before = await hashInputs(inputs);
      // The crate's own directory, for its .cargo/config.toml: it makes the binary static.
      await runLong(say, 'cargo', ['build', '--release', '--locked', '--color=never'], { cwd: join(root, crate) });
      if ((await hashInputs(inputs)) !== before)
        throw new Error('its sources changed while it was built: run it again');
      await copyFile(join(root, binary), join(dir, 'wrenn-agent'));
    },
  };
}
