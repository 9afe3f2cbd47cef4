// The life of a sandbox. Every change goes through this table and is a compare-and-set in the store.
export const sandboxStates = ['pending', 'starting', 'running', 'destroying', 'destroyed', 'error'] as const;
export type SandboxState = (typeof sandboxStates)[number];

// Those that hold memory and a slot of their host.
export const liveStates = ['pending', 'starting', 'running', 'destroying'] as const satisfies SandboxState[];
export const endedStates = ['destroyed', 'error'] as const satisfies SandboxState[];

const movesFrom: Record<SandboxState, readonly SandboxState[]> = {
  pending: ['starting', 'destroying', 'error'],
  starting: ['running', 'destroying', 'error'],
  running: ['destroying', 'error'],
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
