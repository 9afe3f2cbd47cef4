// What a caller is told when a sandbox is not there, or not running.
import { WrennError } from '@wrenn/kit/errors';

import { isLive } from './sandbox-state.ts';
import type { Sandbox } from './sandbox.ts';

export function sandboxNotFound(id: string): WrennError {
  return new WrennError('SANDBOX_NOT_FOUND', `no sandbox ${id}`, { meta: { sandbox: id } });
}

export function snapshotNotFound(name: string): WrennError {
  return new WrennError('SNAPSHOT_NOT_FOUND', `no snapshot ${name}`, { meta: { snapshot: name } });
}

export function requireFound(sandbox: Sandbox | undefined, id: string): Sandbox {
  if (!sandbox) throw sandboxNotFound(id);
  return sandbox;
}

// One that is over, or about to be, is gone for who asks how to reach it.
export function requireLive(sandbox: Sandbox | undefined, id: string): Sandbox {
  if (!sandbox || !isLive(sandbox.state) || sandbox.state === 'destroying') throw sandboxNotFound(id);
  return sandbox;
}

export function requireRunning(sandbox: Sandbox | undefined, id: string): Sandbox {
  const { state, errorReason } = requireFound(sandbox, id);
  if (sandbox && state === 'running') return sandbox;
  const detail = errorReason === '' ? state : `${state}: ${errorReason}`;
  const message =
    state === 'paused' ? `sandbox ${id} is paused; resume it first` : `sandbox ${id} is not running (${detail})`;
  throw new WrennError('SANDBOX_NOT_RUNNING', message, { meta: { state } });
}

// Another operation was first.
export function stateConflict({ id, state }: Sandbox): WrennError {
  return new WrennError('STATE_CONFLICT', `sandbox ${id} is ${state}`, { meta: { state } });
}

export function destroyedMeanwhile(id: string): WrennError {
  return new WrennError('STATE_CONFLICT', `sandbox ${id} was destroyed meanwhile`, { meta: { state: 'destroying' } });
}
