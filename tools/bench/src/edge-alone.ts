// The program of the edge without a mesh: every sandbox is this machine. Prints the port that it serves.
import { serveEdge } from './edge-here.ts';

process.stdout.write(`${await serveEdge(() => '127.0.0.1')}\n`);
