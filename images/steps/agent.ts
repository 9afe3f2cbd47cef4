// The guest agent, one static binary: its .cargo/config.toml makes it so.
import type { Step } from '../cache.ts';
import { crateStep } from './crate.ts';

const path = 'services/guest-agent';

export function agentStep(root: string): Step {
  const sources = ['src', 'build.rs', 'Cargo.toml', 'Cargo.lock', '.cargo'].map((source) => `${path}/${source}`);
  // What its build.rs compiles, and what that may import.
  const protos = ['process', 'filesystem', 'wrenn/agent', 'third_party'].map((proto) => `proto/${proto}`);
  return crateStep(root, {
    name: 'agent',
    path,
    sources: [...sources, ...protos, 'images/steps/agent.ts'],
    builds: [['build']],
    outputs: ['x86_64-unknown-linux-gnu/release/wrenn-agent'],
  });
}
