import { randomBytes } from 'node:crypto';

import { eventually } from '@wrenn/kit/testkit/eventually';
import { beforeAll, describe, expect, test } from 'vitest';

import type { Guest } from '../src/guest.ts';
import { type CliOptions, runCli, startCli } from '../src/run-cli.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const slowMs = 120_000;
const mesh = useMesh();
let guest: Guest;
beforeAll(async () => {
  guest = await mesh.now.create('minimal', { metadata: { note: 'a\u001b[31mb' } });
});

const gateway = () => ({ WRENN_GATEWAY: mesh.now.mesh.addresses.gateway });
const wrenn = (args: string[], options: CliOptions = {}) => runCli(args, { ...options, env: gateway() });

test('create prints an id, ls shows it, inspect knows it, rm removes it', async () => {
  const created = await wrenn(['create', 'minimal', '--ttl', '10m', '--meta', 'owner=ada', '--memory', '192M']);
  expect(created).toMatchObject({ code: 0, stdout: expect.stringMatching(/^cl-[0-9a-z]{25}\n$/) as string });
  const id = created.stdout.trim();
  expect((await wrenn(['ls'])).stdout).toMatch(new RegExp(`^${id}  minimal +running .*192 MiB  owner=ada$`, 'm'));
  const inspected = await wrenn(['inspect', id.slice(0, 12), '--json']);
  expect(JSON.parse(inspected.stdout)).toMatchObject({ id, template: 'minimal', metadata: { owner: 'ada' } });
  expect(await wrenn(['rm', id.slice(3, 14)])).toMatchObject({ code: 0, stdout: `${id}\n` });
  expect((await wrenn(['ls', '-q'])).stdout).not.toContain(id);
  expect((await wrenn(['ls', '--all'])).stdout).toMatch(new RegExp(`^${id} .* destroyed`, 'm'));
});

test('create --json tells the sandbox and where the time went', async () => {
  const created = await wrenn(['create', 'minimal', '--json']);
  const answer = JSON.parse(created.stdout) as { sandbox: { id: string }; timings: { stage: string }[] };
  expect(answer.timings.map(({ stage }) => stage)).toContain('boot');
  expect((await wrenn(['rm', answer.sandbox.id])).code).toBe(0);
});

test('trace lists what went on, and draws where the time of a create went; the page shows the same', async () => {
  const kept = async () => {
    const { stdout } = await wrenn(['trace', guest.id, '--list', '--name', 'Create']);
    return /^([0-9a-f]{12})  \S+ +SandboxService\/Create +gateway/m.exec(stdout) ?? undefined;
  };
  const listed = await eventually('the create is kept', kept, slowMs);
  const traceId = listed[1] ?? '';
  const whole = async () => {
    const { stdout } = await wrenn(['trace', traceId]);
    return /boot +vm-runtime/.test(stdout) && /take slot +network/.test(stdout) && stdout;
  };
  const drawn = await eventually('all of it has come', whole, slowMs);
  expect(drawn).toMatch(/^wrenn\.v1\.SandboxService\/Create .* spans {2}trace [0-9a-f]{32} {2}cl-/m);
  expect(drawn).toMatch(/█+ +\d/);
  const asJson = await wrenn(['trace', guest.id, '--list', '--json']);
  const [newest = '{}'] = asJson.stdout.split('\n');
  expect(JSON.parse(newest)).toMatchObject({ sandboxIds: [guest.id] });
  const page = await fetch(`http://${mesh.now.mesh.addresses.traces}/traces/${traceId}`);
  expect(await page.text()).toMatch(/take slot[^]*<rect /);
  expect((await wrenn(['trace', 'ffffffffff'])).code).toBe(1);
});

describe('exec', () => {
  test('returns the command’s streams and exit code', async () => {
    const result = await wrenn(['exec', guest.id, '--', 'sh', '-c', 'echo out; echo err >&2; exit 42']);
    expect(result).toMatchObject({ code: 42, stdout: 'out\n', stderr: 'err\n' });
  });

  test('carries megabytes of any bytes in and out', async () => {
    const bytes = randomBytes(3_000_000);
    const result = await wrenn(['exec', guest.id, '--', 'cat'], { stdin: bytes });
    expect(result.code).toBe(0);
    expect(Buffer.compare(result.out, bytes)).toBe(0);
  });

  test('sends no stdin when there is none, or when told not to', async () => {
    expect(await wrenn(['exec', guest.id, '--', 'cat'])).toMatchObject({ code: 0, stdout: '' });
    const told = await wrenn(['exec', '--no-stdin', guest.id, '--', 'cat'], { stdin: 'unheard' });
    expect(told).toMatchObject({ code: 0, stdout: '' });
  });

  test('honours user, directory, variables and the dashes of the command’s own options', async () => {
    const options = ['--user', 'nobody', '--cwd', '/tmp', '--env', 'A=b c'];
    const result = await wrenn([
      'exec',
      guest.id,
      ...options,
      '--',
      'sh',
      '-c',
      'id -un; pwd; echo "$A"; echo "$1"',
      '-',
      '--json',
    ]);
    expect(result).toMatchObject({ code: 0, stdout: 'nobody\n/tmp\nb c\n--json\n' });
  });

  test('ends with 124 when the time is over', async () => {
    const result = await wrenn(['exec', '--timeout', '500ms', guest.id, '--', 'sleep', '60']);
    expect(result.code).toBe(124);
  });

  test('passes Ctrl-C on to the command', async () => {
    const script = 'trap "echo caught; exit 9" INT; echo ready; while :; do sleep 0.1; done';
    const { child, result } = startCli(['exec', guest.id, '--', 'sh', '-c', script], { env: gateway() });
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    child.kill('SIGINT');
    expect(await result).toMatchObject({ code: 9, stdout: 'ready\ncaught\n' });
  });

  test('stops the command when nobody reads its output any more', async () => {
    const { child, result } = startCli(['exec', guest.id, '--', 'yes', 'reader-gone'], { env: gateway() });
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    child.stdout?.destroy();
    expect((await result).code).toBe(141);
    await eventually('it is gone', async () => (await guest.count('yes reader-gone')) === 0);
  });
});

test('run creates, runs, destroys, and ends with the command’s code', async () => {
  const result = await wrenn(['run', 'minimal', '--', 'sh', '-c', 'read x; echo "got $x"; exit 5'], { stdin: 'it\n' });
  expect(result).toMatchObject({ code: 5, stdout: 'got it\n' });
  expect((await wrenn(['ls', '-q'])).stdout).toBe(`${guest.id}\n`);
});

test('what guests and callers wrote reaches the terminal escaped', async () => {
  await guest.sh('printf "boo\\033[2J\\n" > /dev/console');
  const logs = await eventually('the console has it', async () => {
    const { stdout } = await wrenn(['logs', guest.id]);
    return stdout.includes('boo') && stdout;
  });
  expect(logs).toContain('boo\\u{1b}[2J');
  expect((await wrenn(['ls'])).stdout).toContain('note=a\\u{1b}[31mb');
});

describe('failures say what to do and have codes of their own', () => {
  test.each([
    [['exec', 'cl-zzzz', '--', 'id'], 1, /no sandbox has an id like "cl-zzzz"; see `wrenn ls`/],
    [['create', 'no-such-template'], 1, /TEMPLATE_NOT_FOUND/],
    [['create', 'minimal', '--memory', 'lots'], 2, /"lots" is no size; write it like 512M/],
    [['create', 'minimal', '--memory', '3M'], 2, /memory_bytes/],
    [['frobnicate'], 2, /unknown command/],
    [['exec'], 2, /missing required argument/],
    [['ls', '--gateway', '127.0.0.1:1'], 69, /does not answer at 127\.0\.0\.1:1; start it with `wrenn up`/],
  ])('%j', async (args, code, message) => {
    const result = await wrenn(args);
    expect(result.stderr).toMatch(message);
    expect(result.code).toBe(code);
  });

  test('a command that is not there is a failure of exec', async () => {
    const result = await wrenn(['exec', guest.id, '--', 'no-such-command']);
    expect(result.code).toBe(1);
    expect(result.stderr).toContain('COMMAND_NOT_FOUND');
  });

  test('an id that fits several sandboxes is refused with their names', async () => {
    const other = await mesh.now.create();
    const result = await wrenn(['inspect', 'cl-']);
    expect(result.code).toBe(2);
    expect(result.stderr).toContain(other.id);
    await other.destroy();
  });
});

test('every command has help with examples', async () => {
  const commands = ['up', 'down', 'doctor', 'demo', 'create', 'run', 'ls', 'inspect', 'exec', 'rm', 'logs', 'trace'];
  await Promise.all(
    commands.map(async (command) => {
      const { code, stdout } = await wrenn([command, '--help']);
      expect(code).toBe(0);
      expect(stdout).toContain(`Usage: wrenn ${command}`);
      expect(stdout).toMatch(/Examples:\n {2}\S/);
    }),
  );
});

endsWithoutLeaks(mesh);
