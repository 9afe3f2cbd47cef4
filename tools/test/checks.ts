// What `make check` holds. The slow ones come first, as two run at a time.
import { cargo } from './cargo.ts';
import { protoBreaking } from './proto-breaking.ts';
import type { Check } from './run-checks.ts';

const crates = [
  ['agent', 'services/guest-agent'],
  ['pager', 'services/pager'],
] as const;

export async function checks(): Promise<Check[]> {
  return [
    ...crates.map(([name, cwd]) => ({
      name: `${name} lint`,
      cwd,
      command: cargo(cwd, 'clippy', '--workspace', '--all-targets', '-q', '--', '-D', 'warnings'),
    })),
    { name: 'types', command: ['tsc', '-p', '.'] },
    { name: 'lint', command: ['oxlint', '--type-aware', '--format=unix'] },
    { name: 'imports', command: ['node', 'tools/test/check-imports.ts'] },
    { name: 'error table', command: ['node', 'tools/docs/errors.ts', '--check'] },
    { name: 'format', command: ['oxfmt', '--check'] },
    ...crates.map(([name, cwd]) => ({
      name: `${name} format`,
      cwd,
      command: ['cargo', 'fmt', '--all', '--check'] as const,
    })),
    { name: 'proto lint', command: ['buf', 'lint'] },
    { name: 'proto format', command: ['buf', 'format', '-d', '--exit-code'] },
    ...(await protoBreaking()),
  ];
}
