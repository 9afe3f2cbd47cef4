// What `wrenn` runs: the command line, bundled where that is what its sources say.
import { join } from 'node:path';

import { runnable } from './programs/programs.ts';

const root = join(import.meta.dirname, '../../..');
await import(join(root, runnable(root, 'tools/cli/src/main.ts')));
