// Starts a supervisor that outlives the command that started it, and follows its start.
import { spawn } from 'node:child_process';
import { join } from 'node:path';

import { z } from 'zod';

import { runnable } from '../programs/programs.ts';
import { openForAppend, tailOf } from './log-file.ts';
import { type MeshOptions, repositoryRoot } from './options.ts';

export const supervisorMessage = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('progress'), line: z.string() }),
  z.object({ kind: z.literal('ready') }),
  z.object({ kind: z.literal('failed'), reason: z.string() }),
]);
export type SupervisorMessage = z.infer<typeof supervisorMessage>;

// Returns its pid once the mesh is ready; rejects with the reason when it is not going to be.
export async function startDetached(
  options: MeshOptions,
  env: NodeJS.ProcessEnv,
  tell: (line: string) => void,
): Promise<number> {
  const logFile = join(options.runDir, 'logs', 'supervisor.log');
  const log = await openForAppend(logFile);
  const child = spawn(process.execPath, [runnable(repositoryRoot, 'tools/cli/src/supervise.ts')], {
    cwd: repositoryRoot,
    env,
    detached: true,
    stdio: ['ignore', log.fd, log.fd, 'ipc'],
  });
  await log.close();
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      tailOf(logFile).then(
        (tail) => reject(new Error(`the supervisor ended (${signal ?? code}); the end of ${logFile}:\n${tail}`)),
        reject,
      );
    });
    child.on('message', (raw) => {
      const message = supervisorMessage.parse(raw);
      if (message.kind === 'progress') tell(message.line);
      else if (message.kind === 'failed') reject(new Error(message.reason));
      else resolve();
    });
    // Over the channel, not the command line: the database's password may be in it.
    child.send(options);
  });
  child.removeAllListeners();
  child.disconnect();
  child.unref();
  if (child.pid === undefined) throw new Error('the supervisor has no pid');
  return child.pid;
}
