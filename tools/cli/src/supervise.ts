// The process behind `wrenn up`: gets the options over its channel, starts the mesh, keeps it running
// until SIGTERM. Not meant to be run by hand.
import { once } from 'node:events';

import { messageOf } from '@wrenn/kit/errors';
import { openLog } from '@wrenn/kit/log';
import { Shutdown, runService } from '@wrenn/kit/shutdown';

import type { SupervisorMessage } from './mesh/detached.ts';
import { Mesh } from './mesh/mesh.ts';
import type { MeshOptions } from './mesh/options.ts';

await runService(async () => {
  const log = openLog('supervisor');
  const [options] = (await once(process, 'message')) as [MeshOptions];
  const say = (message: SupervisorMessage) => {
    if (process.connected) process.send?.(message);
  };
  const mesh = new Mesh(options, {
    log,
    env: process.env,
    tell: (line) => {
      log.info(line);
      say({ kind: 'progress', line });
    },
  });
  // Six services with 15 s each at the worst, and the database.
  const stop = new Shutdown(log, 120_000);
  stop.own('mesh', mesh);
  const stopped = stop.onSignal();
  // Whoever asked for the start has gone before it was done: nobody wants it any more.
  const abandoned = () => void stop.close(); // Never rejects: it logs what fails.
  process.once('disconnect', abandoned);
  try {
    await mesh.start();
  } catch (error) {
    say({ kind: 'failed', reason: messageOf(error) });
    throw error;
  }
  process.off('disconnect', abandoned);
  say({ kind: 'ready' });
  await stopped;
});
