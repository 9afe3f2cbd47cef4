import { inMs } from '@wrenn/kit/deadlines';
import { WrennError, messageOf } from '@wrenn/kit/errors';
import type { Log } from '@wrenn/kit/log';

import type { Host } from './host.ts';
import type { HostVms, SandboxStore } from './ports.ts';
import type { Sandbox } from './sandbox.ts';

const undoLimitMs = 60_000;

export interface UndoParts {
  readonly sandboxes: SandboxStore;
  readonly vms: HostVms;
  readonly log: Log;
}

// First the host, then the record: a sandbox in error holds nothing. What fails here, the reconciler takes up.
export async function undoCreate(parts: UndoParts, sandbox: Sandbox, host: Host, cause: unknown): Promise<void> {
  const { sandboxes, vms, log } = parts;
  const reason = cause instanceof WrennError ? cause.reason : 'INTERNAL';
  log.warn({ sandbox: sandbox.id, host: host.id, reason, err: cause }, 'create failed');
  try {
    await vms.destroy(host.address, sandbox.id, inMs(undoLimitMs));
  } catch (error) {
    log.warn({ err: error, sandbox: sandbox.id, host: host.id }, 'undoing a create is left to the reconciler');
  }
  try {
    await sandboxes.move(sandbox, { to: 'error', reason, message: messageOf(cause).slice(0, 1000) });
  } catch (error) {
    log.warn({ err: error, sandbox: sandbox.id }, 'recording a failed create is left to the reconciler');
  }
}
