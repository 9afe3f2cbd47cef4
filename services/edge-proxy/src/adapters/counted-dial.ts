// A connection through the edge counts as use of its sandbox while bytes move, either way: a page that is
// merely left open keeps nothing alive.
import type { Activity } from '@wrenn/kit/activity-report';

import type { Dial } from './guest-connections.ts';

export function countedDial(dial: Dial, activity: Activity): Dial {
  return async (id, port, signal) => {
    const reached = await dial(id, port, signal);
    const { socket } = reached;
    const use = activity.use(id, () => socket.bytesRead + socket.bytesWritten);
    socket.once('close', () => use[Symbol.dispose]());
    return reached;
  };
}
