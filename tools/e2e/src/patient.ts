// What a test only needs done, it asks for as a client does that is told UNAVAILABLE: again. A database whose disk is
// held up for 0.8 s says so (services/scheduler), and on a machine that several meshes share that happens.
import { setTimeout as sleep } from 'node:timers/promises';

import { hasReason } from '@wrenn/kit/errors';

const attempts = 5;
const pauseMs = 1000;

// `call` may be made twice without harm.
export async function patiently<T>(call: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (attempt === attempts || !hasReason(error, 'DATABASE_UNAVAILABLE')) throw error;
      await sleep(pauseMs);
    }
  }
}
