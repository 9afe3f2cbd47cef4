// What a caller is told when a sandbox is not there, or not running.
import { WrennError } from '@wrenn/kit/errors';

import type { Sandbox } from './sandbox.ts';

export function sandboxNotFound(id: string): WrennError {
  return new WrennError('SANDBOX_NOT_FOUND', `no sandbox ${id}`, { meta: { sandbox: id } });
}

export function requireFound(sandbox: Sandbox | undefined, id: string): Sandbox {
  if (!sandbox) throw sandboxNotFound(id);
  return sandbox;
}

export function requireRunning(sandbox: Sandbox | undefined, id: string): Sandbox {
  const { state, errorReason } = requireFound(sandbox, id);
  if (sandbox && state === 'running') return sandbox;
  const detail = errorReason === '' ? state : `${state}: ${errorReason}`;
  throw new WrennError('SANDBOX_NOT_RUNNING', `sandbox ${id} is not running (${detail})`, { meta: { state } });
}
