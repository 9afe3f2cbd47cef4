// An edge in a process of its own. Tells its port and the id of its sandbox, whose ports are those of 127.0.0.2.
import { startEdge } from './edge.ts';

const { port, sandboxId } = await startEdge();
process.stdout.write(`${JSON.stringify({ port, sandboxId })}\n`);
