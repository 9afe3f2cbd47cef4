// A change of state, once it is committed: an event of the span that brought it about, and the cause of what follows
// from it.
import type { SandboxId } from '@wrenn/kit/ids';
import type { Causes } from '@wrenn/kit/telemetry/causes';
import { addEvent } from '@wrenn/kit/telemetry/span';

import type { Move } from '../domain/ports.ts';

export function tellMove(causes: Causes, id: SandboxId, { to, reason }: Pick<Move, 'to' | 'reason'>): void {
  addEvent('state changed', { 'wrenn.sandbox.id': id, 'wrenn.sandbox.state': to, 'wrenn.reason': reason });
  causes.note(id);
}
