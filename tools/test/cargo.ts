// cargo for a crate of ours. What it compiles is kept for every clone on this machine, as guest images are: nearly all
// of it is dependencies.
import { basename, join } from 'node:path';

export function cargo(crate: string, command: 'clippy' | 'test', ...args: string[]): [string, ...string[]] {
  const cache = process.env['WRENN_CACHE_DIR'] ?? '/var/cache/wrenn';
  return ['cargo', command, '--locked', `--target-dir=${join(cache, 'cargo', basename(crate))}`, ...args];
}
