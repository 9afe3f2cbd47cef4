// The life of a sandbox. Every change goes through this table and is a compare-and-set in the store.
export const sandboxStates = [
  'pending',
  'starting',
  'running',
  'pausing',
  'paused',
  'resuming',
  'destroying',
  'destroyed',
  'error',
] as const;
export type SandboxState = (typeof sandboxStates)[number];

// Those that hold memory, processors and a slot of their host.
export const hostedStates = [
  'pending',
  'starting',
  'running',
  'pausing',
  'resuming',
  'destroying',
] as const satisfies SandboxState[];
// Those that are not over. A paused one holds disk, and nothing else.
export const liveStates = [...hostedStates, 'paused'] as const satisfies SandboxState[];
export const endedStates = ['destroyed', 'error'] as const satisfies SandboxState[];

const movesFrom: Record<SandboxState, readonly SandboxState[]> = {
  pending: ['starting', 'destroying', 'error'],
  starting: ['running', 'destroying', 'error'],
  running: ['pausing', 'destroying', 'error'],
  // Back to running when it failed before the VMM was gone.
  pausing: ['paused', 'running', 'destroying', 'error'],
  // To itself when it stands on an older snapshot than before.
  paused: ['resuming', 'paused', 'destroying', 'error'],
  // Back to paused when it failed: that left the snapshot as it was.
  resuming: ['running', 'paused', 'destroying', 'error'],
  // A host that cannot be asked leaves a sandbox here until it answers: it may still hold resources.
  destroying: ['destroyed'],
  destroyed: [],
  // Destroying one in error makes sure that nothing of it is left.
  error: ['destroying'],
};

export function canMove(from: SandboxState, to: SandboxState): boolean {
  return movesFrom[from].includes(to);
}

export function isLive(state: SandboxState): boolean {
  return (liveStates as readonly SandboxState[]).includes(state);
}

export function isHosted(state: SandboxState): boolean {
  return (hostedStates as readonly SandboxState[]).includes(state);
}
