import { expect, test } from 'vitest';
import { breachesOf } from './import-rules.ts';

const rules = (file: string, ...specifiers: string[]): string[] =>
  breachesOf(file, specifiers.map((specifier) => `import { x } from '${specifier}';`).join('\n')).map(
    ({ rule }) => rule,
  );

test('domain imports domain, pure kit and generated messages freely', () => {
  const file = 'services/scheduler/src/domain/placement.ts';
  expect(rules(file, './states.ts', '@wrenn/kit/errors', '@wrenn/proto/wrenn/v1/sandbox', 'node:crypto')).toEqual([]);
});

test.each(['../adapters/postgres.ts', '../server.ts', '../process-server.ts', '../main.ts'])(
  'domain may not import %s',
  (specifier) => {
    expect(rules('services/scheduler/src/domain/placement.ts', specifier)).toHaveLength(1);
  },
);

test.each([
  'node:fs',
  'node:fs/promises',
  'node:child_process',
  '@grpc/grpc-js',
  'nice-grpc',
  'knex',
  '@wrenn/kit/lanes',
])('domain may not reach outside by %s', (specifier) => {
  expect(rules('services/scheduler/src/domain/placement.ts', specifier)).toEqual(['domain does no I/O']);
});

test('servers and adapters meet only in main', () => {
  expect(rules('services/network/src/server.ts', './adapters/nft.ts')).toHaveLength(1);
  expect(rules('services/network/src/adapters/nft.ts', '../server.ts')).toHaveLength(1);
  expect(rules('services/network/src/main.ts', './server.ts', './adapters/nft.ts', './domain/slots.ts')).toEqual([]);
});

test('a service imports no other service, by package or by path', () => {
  const file = 'services/gateway/src/adapters/scheduler.ts';
  expect(rules(file, '@wrenn/scheduler/states', '../../../scheduler/src/domain/states.ts')).toHaveLength(2);
  expect(rules(file, '@wrenn/kit/lanes', '../domain/routes.ts')).toEqual([]);
});

test('tests of a service may do I/O but import no other service either', () => {
  const file = 'services/gateway/src/domain/routes.test.ts';
  expect(rules(file, 'node:fs', '../adapters/x.ts')).toEqual([]);
  expect(rules(file, '@wrenn/scheduler/states')).toHaveLength(1);
});

test('services import no tools, the kit no service', () => {
  expect(rules('services/gateway/src/main.ts', '@wrenn/cli/mesh', '../../../tools/cli/src/x.ts')).toHaveLength(2);
  expect(rules('services/kit/src/lanes.ts', '@wrenn/gateway/x', '../../gateway/src/config.ts')).toHaveLength(2);
});

test('only tests of services start the embedded database', () => {
  expect(rules('services/scheduler/test/support/servers.ts', '@wrenn/cli/embedded-postgres')).toEqual([]);
  expect(rules('services/scheduler/src/main.ts', '@wrenn/cli/embedded-postgres')).toHaveLength(1);
  expect(rules('services/scheduler/test/support/servers.ts', '@wrenn/cli/mesh')).toHaveLength(1);
});

test('every form of import is seen', () => {
  const forms = [
    `import type { A } from '../server.ts';`,
    `import {\n  a,\n  b,\n} from '../server.ts';`,
    `export { a } from '../server.ts';`,
    `import '../server.ts';`,
    `const late = await import('../server.ts');`,
  ];
  for (const form of forms) expect(breachesOf('services/network/src/domain/a.ts', form)).toHaveLength(1);
});

test('generated code is imported by its package', () => {
  expect(rules('tools/cli/src/a.ts', '../../../proto/gen/wrenn/v1/sandbox_pb.ts')).toHaveLength(1);
});
